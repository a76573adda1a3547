"""kombu on one side, a driver on the other: what one worker process holds, and under which leases."""
