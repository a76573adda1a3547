"""Every Redis key of the limits. All begin with the root of the driver's keys.

| key | type | holds |
|---|---|---|
| `limits` | sorted set | keys in use, by the instant after which an unused one is deleted |
| `limit_rates` | hash | name -> its redefined rate (msgpack: amount, per, kind, burst) |
| `limit_state:<key>` | text | the state of a rate or a breaker (msgpack) |
| `limit_permits:<key>` | hash | token of a lease -> its permit (msgpack: job id, task, since) |
| `limit_most:<key>` | text | how many permits there are |
| `limit_due:<key>` | sorted set | ids of waiting jobs, by the instant at which they try again |
| `limit_since:<key>` | sorted set | the same ids, by the instant since which they wait |
"""

from __future__ import annotations

PLAIN = ("limits", "limit_rates")
NAMED = ("limit_state", "limit_permits", "limit_most", "limit_due", "limit_since")


def lua_prelude() -> str:
    """Lua names of these keys; `root` is the driver's."""
    plain = [f"local {name}_key = root .. '{name}'" for name in PLAIN]
    named = [
        f"local function {name}_key(key) return root .. '{name}:' .. key end" for name in NAMED
    ]
    return "\n".join((*plain, *named))
