"""The end of each job: written to the store in groups, and then acked in the broker."""
