"""Batches, chains and chords: jobs that are counted together, and the callbacks of their end."""
