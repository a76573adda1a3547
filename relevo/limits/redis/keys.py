"""Every Redis key of the limits, in one place. They lie beside the jobs: under the prefix of the
driver's keys.

| key | type | holds |
|---|---|---|
| `limits` | sorted set | keys in use, by the instant after which one is forgotten, unless somebody holds or waits |
| `limit_rates` | hash | name -> its rate, redefined at run time (msgpack: amount, per, kind, burst) |
| `limit_state:<key>` | text | what a rate or a breaker keeps (msgpack) |
| `limit_permits:<key>` | hash | token of a lease -> msgpack: job id, task, since |
| `limit_most:<key>` | text | how many permits there are |
| `limit_due:<key>` | sorted set | ids of jobs in line, by the instant at which they look again |
| `limit_since:<key>` | sorted set | the same, by the instant since which they wait |
"""

from __future__ import annotations

PLAIN = ("limits", "limit_rates")
NAMED = ("limit_state", "limit_permits", "limit_most", "limit_due", "limit_since")


def lua_prelude() -> str:
    """Lua functions that name these keys; `root` is the driver's."""
    plain = [f"local {name}_key = root .. '{name}'" for name in PLAIN]
    named = [
        f"local function {name}_key(key) return root .. '{name}:' .. key end" for name in NAMED
    ]
    return "\n".join((*plain, *named))
