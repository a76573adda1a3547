"""What happened: failed jobs, for a start. The broker holds only what is still to be done."""
