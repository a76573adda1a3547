"""What a job is: options, baton, outcome, backoff, membership. Values, without any effect."""
