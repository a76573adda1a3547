"""The settings of the dashboard: its address, its users, and what it hides of a job.

`config.load` reads them with `read`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relevo.config.environment import Environment, bad_value
from relevo.errors import SettingsError

NAMES = (
    "FLOWER_ADDRESS",
    "FLOWER_PORT",
    "FLOWER_BASIC_AUTH",
    "FLOWER_API_TOKENS",
    "FLOWER_OPERATORS",
    "FLOWER_READ_ONLY",
    "FLOWER_URL_PREFIX",
    "RELEVO_REDACT",
    "RELEVO_SILENCED",
    "RELEVO_KEEP_AUDIT",
)

#: The shortest token, in characters.
SHORTEST_TOKEN = 32
#: An argument is hidden if its name contains one of these, unless RELEVO_REDACT says otherwise.
#: RELEVO_REDACT=none hides no argument.
REDACT, NOTHING = "password,passwd,secret,token,api_key,authorization,credit_card,iban", "none"
DAY = 86_400


@dataclass(frozen=True, slots=True)
class FlowerSettings:
    """The settings of Flower. An unset text is `None` or ""."""

    #: FLOWER_ADDRESS, FLOWER_PORT: where the dashboard listens.
    address: str
    port: int
    #: FLOWER_BASIC_AUTH: "user:password", several with commas between them; None admits everyone.
    basic_auth: str | None = field(repr=False)
    #: FLOWER_API_TOKENS: "name:token", several with commas: the programs that may call the API.
    api_tokens: str | None = field(repr=False)
    #: FLOWER_OPERATORS: the users who may act, with commas; "*" for all, "" for those with a
    #: password.
    operators: str
    #: FLOWER_READ_ONLY: no user may act.
    read_only: bool
    #: FLOWER_URL_PREFIX: the path below which the dashboard lies.
    url_prefix: str


@dataclass(frozen=True, slots=True)
class DashboardSettings:
    """What the dashboard shows of the jobs, and to whom."""

    flower: FlowerSettings
    #: RELEVO_REDACT: parts of argument names; the values of these arguments are hidden.
    redact: tuple[str, ...] = field(repr=False)
    #: RELEVO_SILENCED: tasks, and tags as `tag:health`. Their completed jobs are listed apart. `*`
    #: matches any text.
    silenced: tuple[str, ...]
    #: RELEVO_KEEP_AUDIT: how many seconds the audit log is kept.
    keep_audit: float


def read(env: Environment) -> DashboardSettings:
    """Read the settings. Raises SettingsError for the first bad value."""
    redact = env.text("RELEVO_REDACT", REDACT)
    return DashboardSettings(
        flower=FlowerSettings(
            address=env.host("FLOWER_ADDRESS", "127.0.0.1"),
            port=env.whole("FLOWER_PORT", 5555, 1, 65535),
            basic_auth=_pairs(env, "FLOWER_BASIC_AUTH", "user:password"),
            api_tokens=_tokens(env),
            operators=env.text("FLOWER_OPERATORS"),
            read_only=env.choice("FLOWER_READ_ONLY", "false", ("true", "false")) == "true",
            url_prefix=env.text("FLOWER_URL_PREFIX").strip("/"),
        ),
        redact=() if redact == NOTHING else _names(redact),
        silenced=_names(env.text("RELEVO_SILENCED")),
        keep_audit=env.seconds("RELEVO_KEEP_AUDIT", 90 * DAY),
    )


def _names(given: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in given.split(",") if name.strip())


def _pairs(env: Environment, name: str, form: str) -> str | None:
    given = env.secret(name)
    if not all(":" in pair for pair in given.split(",") if given):
        raise SettingsError(f"expected {name} to be {form}, several with commas between them")
    return given or None


def _tokens(env: Environment) -> str | None:
    given = _pairs(env, "FLOWER_API_TOKENS", "name:token")
    for pair in given.split(",") if given else []:
        name, _, token = pair.partition(":")
        if len(token) < SHORTEST_TOKEN or not name.strip():
            what = f"name:token with tokens of at least {SHORTEST_TOKEN} characters"
            raise bad_value("FLOWER_API_TOKENS", what, f"{name}:… with {len(token)}")
    return given
