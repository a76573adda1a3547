"""What people do to jobs: cancel, retry, clear, pause."""
