"""Pauses of queues, tasks and tags: workers start no job of these until the pause ends."""

from __future__ import annotations

from typing import Any

from relevo.dashboard.handlers import Action, Page
from relevo.dashboard.pages.overview import PAUSES
from relevo.errors import OptionError
from relevo.operations import pauses as job_pauses
from relevo.operations.pauses import LONGEST_NAME


class PausesPage(Page):
    """What is paused, and until when."""

    template, title, tab = "relevo/pauses.html", "Pauses", "more"
    server_name = "The broker"

    def gather(self, *_arguments: str) -> dict[str, Any]:
        source = self.application.source
        paused = source.driver.paused()
        rows = [(queue, paused[queue], source.driver.sizes(queue)) for queue in sorted(paused)]
        tasks = sorted(
            name for name in self.application.capp.tasks if not name.startswith("celery.")
        )
        return {
            "rows": rows,
            "pauses": PAUSES,
            "kinds": job_pauses.KINDS,
            "names": [(name, "queue") for name in source.queues()]
            + [(name, "task") for name in tasks],
            "suspended": [
                (what, *what.split(":", 1), until, source.driver.parked(what))
                for what, until in sorted(source.driver.suspended().items())
            ],
        }

    def as_json(self, values: dict[str, Any]) -> dict[str, Any]:
        return {
            "queues": [
                {"queue": queue, "until": until, "sizes": sizes}
                for queue, until, sizes in values["rows"]
            ],
            "suspended": [
                {"what": what, "until": until, "parked": parked}
                for what, _, _, until, parked in values["suspended"]
            ],
        }


class AddPause(Action):
    """Pause a queue, a task or a tag, for some seconds or until it is lifted."""

    name = "add pause"

    def target(self, *_arguments: str) -> str:
        return f"{self.field('kind')} {self.field('name')}"

    def act(self, *_arguments: str) -> str:
        kind, name, driver = self.field("kind"), self.field("name"), self.application.source.driver
        seconds, said = parse_length(self.field("for"))
        job_pauses.check(self.application.capp, kind, name)
        job_pauses.add(driver, kind, name, None if seconds is None else driver.now() + seconds)
        return f"{kind} {name} is paused {said}."


class LiftPause(Action):
    """End the pause of a task or a tag."""

    name = "lift pause"

    def target(self, *_arguments: str) -> str:
        return self.field("what")

    def act(self, *_arguments: str) -> str:
        what = self.field("what")
        if what not in self.application.source.driver.suspended():
            raise OptionError(f"expected something that is paused, got {what[:60]!r}")
        self.application.source.driver.lift(what)
        return f"{what.replace(':', ' ', 1)} goes on."


def parse_length(given: str) -> tuple[float | None, str]:
    """The chosen length of a pause, in seconds and in words. Raises OptionError."""
    if given not in dict(PAUSES):
        raise OptionError(
            f"expected a pause of {', '.join(name for name, _ in PAUSES if name)} s or none, "
            f"got {given[:60]!r}"
        )
    called = dict(PAUSES)[given]
    return (float(given), f"for {called}") if given else (None, called)


class QueueAction(Action):
    """An action on the queue that the form names."""

    def target(self, *_arguments: str) -> str:
        return self.field("queue")

    def queue(self) -> str:
        """The queue's name. Raises OptionError."""
        name = self.field("queue")
        if not name.strip() or len(name) > LONGEST_NAME:
            raise OptionError(
                f"expected a queue's name of 1 to {LONGEST_NAME} characters, got {name[:60]!r}"
            )
        return name


class PauseQueue(QueueAction):
    """Pause a queue, for some seconds or until it is resumed."""

    name = "pause queue"

    def act(self, *_arguments: str) -> str:
        queue, driver = self.queue(), self.application.source.driver
        seconds, said = parse_length(self.field("for"))
        driver.pause(queue, None if seconds is None else driver.now() + seconds)
        return f"{queue} is paused {said}."


class ResumeQueue(QueueAction):
    """End the pause of a queue."""

    name = "resume queue"

    def act(self, *_arguments: str) -> str:
        queue = self.queue()
        self.application.source.driver.resume(queue)
        return f"{queue} goes on."
