"""Limits on the Redis of the jobs: one Lua call for each step, by Redis's clock."""
