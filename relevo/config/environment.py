"""Reads settings as texts: from the process environment, then from the `.env` file.

`config.settings` says what each setting means and its default. This module turns a text into a
number, a folder or a choice; a bad value becomes one line that names the setting and shows what was
expected. An empty value counts as not set.

django-environ reads the file. Its casts are not used: its float reads 'soon3' as 3, and its lookup
follows a value that starts with '$' (a password may) to another variable.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from environ import Env

from relevo.errors import SettingsError, did_you_mean

# A variable with one of these prefixes is meant for Relevo; an unknown one is refused.
OUR_PREFIXES = ("QUEUE_", "REDIS_", "RELEVO_", "FILES_DISK_")

# Kubernetes and Docker set such variables in every container for a service called `redis` or
# `queue`. They are no typing errors.
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)(_|$)|_PORT_\d+_(TCP|UDP)(_|$)")

_LINE = re.compile(r"(export )?[A-Za-z_0-9]+=")
_NUMBER = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)
_WHOLE = re.compile(r"\d{1,12}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z0-9+.-]{1,30}(?=://)", re.ASCII)
_LONGEST_SHOWN = 60


class Environment:
    """The settings that were given, by name. Each method takes the default for an unset one."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def text(self, name: str, default: str = "") -> str:
        return self._values.get(name, "").strip() or default

    def names(self) -> list[str]:
        """The names that were given, sorted."""
        return sorted(self._values)

    def secret(self, name: str) -> str:
        """The value unstripped: a password may begin or end with a blank."""
        return self._values.get(name, "")

    def choice(self, name: str, default: str, known: Collection[str]) -> str:
        given = self.text(name, default)
        if given not in known:
            raise bad_value(name, f"one of {', '.join(known)}", given, did_you_mean(given, known))
        return given

    def seconds(self, name: str, default: float) -> float:
        given = self.text(name)
        if not given:
            return default
        if not _NUMBER.fullmatch(given) or not float(given):
            raise bad_value(name, "a positive number of seconds", given)
        return _number(given)

    def waits(self, name: str, default: tuple[float, ...]) -> tuple[float, ...]:
        given = self.text(name)
        parts = [part.strip() for part in given.split(",")] if given else []
        if not all(_NUMBER.fullmatch(part) for part in parts):
            raise bad_value(
                name, "numbers of seconds with commas between them, like 10,30,60", given
            )
        return tuple(map(_number, parts)) or default

    def whole(self, name: str, default: int, lowest: int, highest: int) -> int:
        given = self.text(name)
        if not given:
            return default
        if not _WHOLE.fullmatch(given) or not lowest <= int(given) <= highest:
            raise bad_value(name, f"a whole number from {lowest} to {highest}", given)
        return int(given)

    def host(self, name: str, default: str) -> str:
        given = self.text(name, default)
        if not _HOST.fullmatch(given):
            raise bad_value(name, "a host name or an address", given)
        return given

    def folder(self, name: str, default: Path) -> Path:
        """Return an absolute path, so that every process means the same folder.

        The folder need not exist, but the path may not be that of a file.
        """
        given = self.text(name, str(default))
        try:
            path = Path(given).expanduser().absolute()
            fits = given.isprintable() and not path.is_file()
        # A name too long, an unknown user's home, a null byte.
        except (OSError, RuntimeError, ValueError):
            fits = False
        if not fits:
            raise bad_value(name, "a folder", given)
        return path


def read(
    known: Collection[str],
    environ: Mapping[str, str],
    env_file: Path | None,
    others: Iterable[str] = (),
) -> Environment:
    """Read the settings of `environ`, and below them those of `env_file`.

    A missing file counts as empty. An unknown name is refused: any name in the file, and in the
    environment a name with one of `OUR_PREFIXES`. `others` are names, or patterns like `STRIPE_*`,
    of other programs that share these places.
    """
    filed = _read_file(env_file) if env_file else {}
    ours = [
        name for name in environ if name.startswith(OUR_PREFIXES) and not _SERVICE_LINK.search(name)
    ]
    for name in (*filed, *ours):
        if name not in known and not any(fnmatchcase(name, pattern) for pattern in others):
            where = f"{env_file}" if name in filed else "the environment"
            raise SettingsError(
                f"expected every setting in {where} to be a known one, got {name!r}"
                f"{did_you_mean(name, known)}"
            )
    return Environment({**filed, **environ})


def bad_value(name: str, what: str, given: str, hint: str = "") -> SettingsError:
    """Return the error for a bad value. It shows the value."""
    shown = given if len(given) <= _LONGEST_SHOWN else given[:_LONGEST_SHOWN] + "…"
    return SettingsError(f"expected {name} to be {what}, got {shown!r}{hint}")


def bad_url(name: str, what: str, given: str) -> SettingsError:
    """Return the error for a bad url. It shows only the scheme: the rest may hold a password."""
    scheme = _SCHEME.match(given)
    shown = (
        f"{scheme.group()}://…"
        if scheme
        else "a text without a scheme (not shown: it may hold a password)"
    )
    return SettingsError(f"expected {name} to be {what}, got {shown}")


def _read_file(path: Path) -> dict[str, str]:
    text = _read_text(path)
    for number, line in enumerate(text.splitlines(), start=1):
        # django-environ skips such a line with a warning that nobody reads. The text isn't shown,
        # because it may be a password.
        if line.strip() and not line.startswith("#") and not _LINE.match(line):
            raise SettingsError(
                f"expected line {number} of {path} to be NAME=value or to start with #"
            )
    return _parse(text)


def _parse(text: str) -> dict[str, str]:
    values: dict[str, str] = {}

    class File(Env):
        ENVIRON = values  # django-environ would write into the process environment

    File.read_env(io.StringIO(text))
    return values


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"expected {path} to be a readable text file, got: {type(error).__name__}"
        ) from error


def _number(text: str) -> float:
    return float(text) if "." in text else int(text)
