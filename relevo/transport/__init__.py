"""kombu on one side, a driver on the other: the jobs that a process holds, under leases."""
