"""Relevo's commands."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.metadata import EntryPoint

import click

from tests.support.programs import ROOT


@cache
def our_commands() -> dict[str, click.Command]:
    """Our sub-commands of `celery`, by the entry points in pyproject.toml, also if Relevo isn't
    installed.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["celery.commands"]
    return {
        name: EntryPoint(name, value, "celery.commands").load() for name, value in points.items()
    }
