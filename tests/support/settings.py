"""Settings from an environment that a test gives."""

from __future__ import annotations

from relevo import config
from relevo.config import Settings


def load(**environ: str) -> Settings:
    """The settings of these variables, without a `.env` file."""
    return config.load(environ, env_file=None)
