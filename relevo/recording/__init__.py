"""What became of each job, written to the store in groups before the broker's copy is acked."""
