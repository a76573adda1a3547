"""`celery -A tasks limits list|show|rates|set|clear`: permits, rates and circuit breakers in use.

For each limit: which jobs hold it, until when, and which wait for it.
"""

from __future__ import annotations

from typing import Any

import click

from relevo.cli.context import driver_of
from relevo.cli.options import limit_option
from relevo.cli.output import (
    confirm,
    json_option,
    moment,
    one_line_errors,
    say,
    say_json,
    show,
    show_one,
    some,
    yes_option,
)
from relevo.errors import OptionError
from relevo.limits.contract import ERRORS, OVERLAP, RATE, HeldPermit, Limits, LimitView
from relevo.limits.rates import KINDS, Rate
from relevo.middleware import limit_context
from relevo.middleware.limit_context import limits_for
from relevo.operations import limits as limit_operations


@click.group("limits")
def limits() -> None:
    """The limits in use: which jobs hold one, until when, and which wait."""


@limits.command("list")
@click.argument("prefix", default="")
@click.option(
    "--kind", type=click.Choice([OVERLAP, RATE, ERRORS]), help="Only permits, rates or breakers."
)
@limit_option
@json_option
@click.pass_context
@one_line_errors
def list_limits(
    context: click.Context, prefix: str, kind: str | None, limit: int, as_json: bool
) -> None:
    """The limits in use, or those whose keys begin with PREFIX."""
    if kind and not prefix.startswith(f"{kind}/"):
        prefix = f"{kind}/{prefix}"
    rows = [_row(view) for view in _limits(context).views(prefix, limit)]
    show(rows, as_json, empty="No limit is in use.")


def _row(view: LimitView) -> dict[str, Any]:
    used = f"{view.used:g}" if view.most is None else f"{view.used:g} of {view.most:g}"
    return {
        "key": view.key,
        "used": used,
        "rate": view.rate,
        "waiting": view.waiting,
        "until": moment(view.until),
    }


@limits.command("show")
@click.argument("key")
@json_option
@click.pass_context
@one_line_errors
def show_limit(context: click.Context, key: str, as_json: bool) -> None:
    """All about one limit: the jobs that hold a permit, and the first jobs that wait."""
    view = next((view for view in _limits(context).views(key) if view.key == key), None)
    if view is None:
        raise click.ClickException(f"no limit {key!r} is in use")
    holders = [_held(one) for one in view.holders]
    if as_json:
        say_json({**_row(view), "holders": holders, "line": view.line})
        return
    held = [
        f"{one['task']} {one['job']}, since {one['since']}, lease until {one['until']}"
        for one in holders
    ]
    show_one({**_row(view), "holders": "\n".join(held), "line": "\n".join(view.line)}, as_json)


def _held(held: HeldPermit) -> dict[str, Any]:
    return {
        "task": held.task,
        "job": held.job_id,
        "since": moment(held.since),
        "until": moment(held.until),
    }


@limits.command("rates")
@json_option
@click.pass_context
@one_line_errors
def rates(context: click.Context, as_json: bool) -> None:
    """The named rates: as defined in the code, and as set with `limits set`."""
    defined, changed = _defined(context), _limits(context).redefined_rates()
    rows = [
        {
            "name": name,
            "rate": str(defined[name]) if name in defined else None,
            "set": str(changed[name]) if name in changed else None,
        }
        for name in sorted({*defined, *changed})
    ]
    show(rows, as_json, empty="No rate has a name.")


@limits.command("set")
@click.argument("name")
@click.argument("rate")
@click.option("--kind", type=click.Choice(KINDS), help="Default: the kind in the code.")
@click.option("--burst", type=click.IntRange(1), help="How many units a bucket saves up.")
@json_option
@click.pass_context
@one_line_errors
def set_rate(
    context: click.Context, name: str, rate: str, kind: str | None, burst: int | None, as_json: bool
) -> None:
    """Change a named rate for all workers: `mail 20/hour`; `mail default` goes back to the rate in
    the code.
    """
    new = limit_operations.set_rate(context.obj.app, driver_of(context), name, rate, kind, burst)
    said = (
        f"{new or 'no rate in the code'}."
        if rate == limit_operations.DEFAULT
        else f"{new} from now on."
    )
    say(f"{name}: {said}", as_json, name=name, rate=new and str(new))


@limits.command("clear")
@click.argument("keys", nargs=-1, required=True)
@yes_option
@json_option
@click.pass_context
@one_line_errors
def clear(context: click.Context, keys: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Delete the units, errors, permits and waiting line of these keys.

    Jobs that wait are tried at once; running jobs go on.
    """
    driver = driver_of(context)
    known = {
        key: next((view for view in limits_for(driver).views(key) if view.key == key), None)
        for key in keys
    }
    missing = [key for key, view in known.items() if view is None]
    if missing:
        raise OptionError(f"no limit {missing[0]!r} is in use")
    holders = sum(len(view.holders) for view in known.values() if view)
    consequence = f"{some(holders, 'job')} that hold a permit run on without it."
    confirm(f"Clear {some(len(keys), 'limit')}? {consequence}", yes)
    called = sum(limit_context.clear(driver, key) for key in keys)
    said = f"{some(len(keys), 'limit')} cleared, {some(called, 'job')} called."
    say(said, as_json, cleared=list(keys), called=called)


def _limits(context: click.Context) -> Limits:
    return limits_for(driver_of(context))


def _defined(context: click.Context) -> dict[str, Rate]:
    app = context.obj.app
    app.loader.import_default_modules()  # they may call `app.limits.define`
    return dict(getattr(app, "limits", {}))
