"""The settings: read once, from the environment and `.env`, into values that never change.

`load()` is the whole of it for a program; `Settings` is what it returns. Each group of settings has
a module of its own.
"""

from relevo.config.settings import CONNECTIONS, NAMES, Connection, Connections, Settings, load

__all__ = ["CONNECTIONS", "NAMES", "Connection", "Connections", "Settings", "load"]
