"""The files of relevo/ that one plain job enters, from its dispatch to its ack.

    python -m benchmarks.files_entered [URL …]        BENCH_JOBS=5

A worker (prefork, one child) has run a job already, so nothing is imported or connected for the
first time. Then one job after the other is dispatched. Every process notes the files whose code it
calls until the broker holds the job no more. What an idle worker does meanwhile counts as well, but
a file counts only if each of the BENCH_JOBS jobs has entered it.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import relevo
from benchmarks.stage import QUEUE, Stage, brokers, until
from relevo import config
from relevo.app import create_app

JOBS = int(os.environ.get("BENCH_JOBS", "5"))
PACKAGE = f"{Path(relevo.__file__).parent}/"
PROCESSES = ("caller", "worker", "child")


class Recorder:
    """Notes the files that the threads of this process enter while a job is counted.

    The processes share one byte: the number of the job that is counted now, or 0 for none. They
    append to one file of notes, a line for each job, process and file.
    """

    def __init__(self, folder: str, process: str | None = None) -> None:
        byte, self.notes = Path(folder, "number"), Path(folder, "notes")
        if not byte.exists():
            byte.write_bytes(b"\0")
        with byte.open("r+b") as file:
            self.number = mmap.mmap(file.fileno(), 1)
        self._process, self._pid = process, os.getpid()
        self._seen: set[tuple[int, str]] = set()

    @property
    def process(self) -> str:
        return self._process or ("worker" if os.getpid() == self._pid else "child")

    def record(self) -> None:
        """From now on, in this thread, in those to come, and in the processes forked from them."""
        threading.setprofile(self.enter)
        sys.setprofile(self.enter)

    def enter(self, frame: FrameType, event: str, _argument: object) -> None:
        """A profile function: Python calls it for every call."""
        number, path = self.number[0], frame.f_code.co_filename
        if event != "call" or not number or not path.startswith(PACKAGE):
            return
        if (number, path) not in self._seen:
            self._seen.add((number, path))
            notes = os.open(self.notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(notes, f"{number} {self.process} {path.removeprefix(PACKAGE)}\n".encode())
            os.close(notes)

    def noted(self) -> Iterator[tuple[int, str, str]]:
        """The number of a job, a process that has run a part of it, a file that was entered."""
        for line in self.notes.read_text().splitlines():
            number, process, path = line.split(maxsplit=2)
            yield int(number), process, path


def files_entered(stage: Stage) -> dict[str, list[str]]:
    """File -> the processes that entered it for every job."""
    recorder = Recorder(stage.environ["BENCH_FILES"], "caller")
    app = create_app(
        "client",
        config.load({"QUEUE_RESULTS": "none"}, env_file=None),
        broker_url=stage.url,
        task_default_queue=QUEUE,
    )

    @app.task(name="bench.noop", ignore_result=True, shared=False)
    def noop() -> None: ...

    with stage.worker("-P", "prefork", "-c", "1"):
        for number in range(JOBS + 1):  # number 0 is not recorded
            recorder.number[0] = number
            sys.setprofile(recorder.enter)
            noop.delay()
            sys.setprofile(None)
            until(lambda: not any_job(stage), pause=0.005)
            recorder.number[0] = 0
    found: dict[tuple[str, str], set[int]] = {}
    for number, process, path in recorder.noted():
        found.setdefault((path, process), set()).add(number)
    always = [key for key, numbers in found.items() if len(numbers) == JOBS]
    return {
        path: [process for process in PROCESSES if (path, process) in always]
        for path in sorted({path for path, _ in always})
    }


def any_job(stage: Stage) -> int:
    sizes = stage.driver.sizes(QUEUE)
    return sizes.pending + sizes.delayed + sizes.reserved


def main() -> None:
    with brokers(sys.argv[1:] or ("sqlite", "redis")) as urls:
        for name, url in urls.items():
            stage = Stage(url)
            stage.environ["BENCH_FILES"] = stage.folder.name
            stage.clear()
            found = files_entered(stage)
            counts = [
                f"{process} {sum(process in entered for entered in found.values())}"
                for process in PROCESSES
            ]
            print(f"\n{name}: a plain job enters {len(found)} files ({', '.join(counts)})")
            for path, processes in found.items():
                print(f"  {path:<40} {', '.join(processes)}")


if __name__ == "__main__":
    main()
