"""The memory driver: the whole contract in one process, in words as plain as the contract's own.

It is what the contract means where prose could be read two ways, and the broker of tests and trials
(`memory://name`). Every step looks at all jobs, so it is for thousands of them, not for millions;
nothing survives the process.
"""

from relevo.drivers.memory.driver import MemoryDriver

__all__ = ["MemoryDriver"]
