"""`make dev`: runs all programs of the Procfile in one terminal.

Each program is a process in its own group. A program that ends is started again after a growing
wait. When a file changes, all programs are started again.
"""
