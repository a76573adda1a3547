"""Limits on the Redis of the jobs: one Lua call a step, by Redis's clock."""
