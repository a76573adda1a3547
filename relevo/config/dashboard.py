"""The settings of what people see: the dashboard, who may do what there, and what of a job is shown
to nobody.

Read by `config.load`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relevo.config.environment import Environment, expected
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

#: A token is as long as a good secret.
SHORTEST_TOKEN = 32
#: Arguments whose name has one of these in it are hidden unless RELEVO_REDACT says otherwise;
#: `none`: no argument is.
REDACT, NOTHING = "password,passwd,secret,token,api_key,authorization,credit_card,iban", "none"
DAY = 86_400


@dataclass(frozen=True, slots=True)
class FlowerSettings:
    """The dashboard. `None` or "" where nothing was set."""

    #: FLOWER_ADDRESS, FLOWER_PORT: where it listens.
    address: str
    port: int
    #: FLOWER_BASIC_AUTH: "user:password", several with commas between them; None lets everyone in.
    basic_auth: str | None = field(repr=False)
    #: FLOWER_API_TOKENS: "name:token", several with commas between them: programs that are let in.
    api_tokens: str | None = field(repr=False)
    #: FLOWER_OPERATORS: who may act on it, names with commas; "*" is whoever gets in, "" whoever
    #: has a password.
    operators: str
    #: FLOWER_READ_ONLY: nobody may.
    read_only: bool
    #: FLOWER_URL_PREFIX: the path that it lies below.
    url_prefix: str


@dataclass(frozen=True, slots=True)
class DashboardSettings:
    """What of the jobs is shown, and to whom."""

    flower: FlowerSettings
    #: RELEVO_REDACT: parts of names of arguments whose values nobody sees.
    redact: tuple[str, ...] = field(repr=False)
    #: RELEVO_SILENCED: tasks, and tags as `tag:health`, whose completed jobs are listed apart; `*`
    #: is anything.
    silenced: tuple[str, ...]
    #: RELEVO_KEEP_AUDIT: for how many seconds the audit log is kept.
    keep_audit: float


def read(env: Environment) -> DashboardSettings:
    """The settings; SettingsError for the first that is wrong."""
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


def _pairs(env: Environment, name: str, said: str) -> str | None:
    given = env.secret(name)
    if not all(":" in pair for pair in given.split(",") if given):
        raise SettingsError(f"expected {name} to be {said}, several with commas between them")
    return given or None


def _tokens(env: Environment) -> str | None:
    given = _pairs(env, "FLOWER_API_TOKENS", "name:token")
    for pair in given.split(",") if given else []:
        name, _, token = pair.partition(":")
        if len(token) < SHORTEST_TOKEN or not name.strip():
            what = f"name:token with tokens of at least {SHORTEST_TOKEN} characters"
            raise expected("FLOWER_API_TOKENS", what, f"{name}:… with {len(token)}")
    return given
