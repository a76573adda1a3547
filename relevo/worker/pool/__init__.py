"""The prefork pool: child processes, the pipes to them, and the threads that watch them."""
