"""The memory driver: the whole contract in one process, in code as plain as the contract.

It decides what the contract means where its prose could be read in two ways, and it is the broker
of tests and trials (`relevo://memory`). Every step looks at all jobs: it is for thousands of jobs,
not for millions, and they end with the process.
"""

from relevo.drivers.memory.driver import MemoryDriver

__all__ = ["MemoryDriver"]
