"""Operations on jobs from the command line, the dashboard and code: cancel, retry, clear, pause."""
