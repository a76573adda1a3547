"""The settings of an environment that a test makes up."""

from __future__ import annotations

from relevo import config
from relevo.config import Settings


def load(**environ: str) -> Settings:
    """As they are read from these variables, without a `.env` file."""
    return config.load(environ, env_file=None)
