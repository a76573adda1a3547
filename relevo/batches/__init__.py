"""Batches, chains and chords: jobs that belong together, and what follows when they have ended."""
