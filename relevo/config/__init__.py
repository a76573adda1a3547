"""The settings: read once, from the environment and `.env`, into a frozen value.

A program calls `load()` and gets a `Settings`. Each group of settings has a module of its own.
"""

from relevo.config.settings import CONNECTIONS, NAMES, Connection, Connections, Settings, load

__all__ = ["CONNECTIONS", "NAMES", "Connection", "Connections", "Settings", "load"]
