"""A worker's main process: its pool, its requests, remote control, stop and restart."""
