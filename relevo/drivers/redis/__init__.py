"""The Redis driver: jobs in sorted sets, one Lua call a step, leases by Redis's own clock."""
