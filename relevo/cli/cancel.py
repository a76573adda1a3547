"""`celery -A tasks jobs cancel|delete`: jobs that shall not run."""

from __future__ import annotations

import click

from relevo.cli.broker import driver_of, store_of
from relevo.cli.living import Which, meant
from relevo.cli.options import which_jobs
from relevo.cli.output import complain, confirm, json_option, one_line_errors, say, some, yes_option
from relevo.drivers.contract import JobView, State
from relevo.job import cancel as cancelling
from relevo.store import history


@click.command("cancel")
@click.argument("ids", nargs=-1, metavar="[ID…]")
@which_jobs
@click.option("--terminate", is_flag=True, help="Kill those that run, in the midst of what they do.")
@yes_option
@json_option
@click.pass_context
@one_line_errors
def cancel(
    context: click.Context, ids: tuple[str, ...], queue: str | None, task: str | None, tag: str | None,
    terminate: bool, yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Cancel jobs: by id, or all in the broker by queue, task, tag.

    What waits is taken out of the broker and recorded as cancelled. What runs goes on, unless --terminate, and is not
    tried again, whichever worker is asked.
    """
    driver, store = driver_of(context), store_of(context)
    found, missing = meant(driver, ids, Which(queue, task, tag))
    if found:
        running = sum(job.state is State.RESERVED for job in found)
        confirm(f"Cancel {some(len(found), 'job')} ({running} of them reserved by a worker)?", yes)
    wanted = [job.id for job in found]
    done = cancelling.cancel(context.obj.app, driver, store, wanted, terminate=terminate)
    say(
        _told(done), as_json, withdrawn=_ids(done.withdrawn), killed=_ids(done.killed), running=_ids(done.running),
        missing=missing,
    )  # fmt: skip
    _end(missing)


def _told(done: cancelling.Cancelled) -> str:
    parts = [f"{some(len(done.withdrawn), 'job')} cancelled before they ran" if done.withdrawn else "",
             f"{some(len(done.killed), 'job')} killed" if done.killed else "",
             f"{some(len(done.running), 'job')} cancelled in the midst: an attempt that runs goes on to its end, and is"
             " the last" if done.running else ""]  # fmt: skip
    return "; ".join(filter(None, parts)) + "." if len(done) else "Nothing was there to cancel."


def _ids(jobs: list[JobView]) -> list[str]:
    return [job.id for job in jobs]


@click.command("delete")
@click.argument("ids", nargs=-1, metavar="[ID…]")
@which_jobs
@yes_option
@json_option
@click.pass_context
@one_line_errors
def delete(
    context: click.Context, ids: tuple[str, ...], queue: str | None, task: str | None, tag: str | None,
    yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Delete jobs without a trace: by id, also from history, or all in the broker by queue, task, tag."""
    driver, store = driver_of(context), store_of(context)
    found, missing = meant(driver, ids, Which(queue, task, tag))
    missing = [id_ for id_ in missing if history.find(store, id_) is None]
    wanted = [*(job.id for job in found), *(id_ for id_ in ids if id_ not in missing)]
    if wanted:
        confirm(f"Delete {some(len(set(wanted)), 'job')} without a trace?", yes)
    cancelling.counted(context.obj.app, store, found)  # first: what a crash leaves can be deleted again
    gone, forgotten = driver.delete(wanted), history.forget(store, wanted)
    say(f"{gone} deleted from the broker, {forgotten} from history.", as_json, broker=gone, history=forgotten,
        missing=missing)  # fmt: skip
    _end(missing)


def _end(missing: list[str]) -> None:
    """Exit code 1 when some of what was asked for isn't there."""
    for each in missing:
        complain(f"there is no job {each} in the broker")
    if missing:
        raise click.exceptions.Exit(1)
