"""The Redis driver: jobs in sorted sets, one Lua call for each step, leases by Redis's clock."""
