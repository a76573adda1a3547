"""The cost of a million delayed jobs for a worker on Redis: CPU of the worker and the server for
each other job, and memory.

`python -m benchmarks.delayed [number]` prints ratios: 1.00 is the cost without delayed jobs. Each
figure is the best of TIMES.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import psutil

from relevo.drivers.contract import NewJob, State
from relevo.drivers.redis.driver import RedisDriver
from tests.support import servers

CHUNK, JOBS, ROOM, TIMES = 5_000, 20_000, 10, 3
PAYLOAD = json.dumps({"body": "x" * 200})


def main(many: int) -> None:
    with servers.redis() as url:
        driver = RedisDriver(url, {"socket_timeout": 60})
        measure(url, driver)  # the first is the server's warming up
        without = measure(url, driver)
        seconds = put(driver, many)
        with_them = measure(url, driver)
        for what in without:
            print(
                f"{what}: {without[what]:,.1f} without, {with_them[what]:,.1f} with, "
                f"ratio {with_them[what] / without[what]:.2f}"
            )
        print(
            f"{many / seconds:,.0f} put per second; counted, listed and cleared in "
            f"{timed(lambda: driver.sizes('bench')) * 1000:.1f} ms, "
            f"{timed(lambda: driver.peek('bench', State.DELAYED)) * 1000:.1f} ms and "
            f"{timed(lambda: driver.clear('bench')):.1f} s"
        )


def put(driver: RedisDriver, many: int) -> float:
    later = driver.now() + 100_000
    started = time.perf_counter()
    for start in range(0, many, CHUNK):
        driver.put(
            [
                NewJob("bench", PAYLOAD, f"later-{number}", available_at=later + number)
                for number in range(start, min(start + CHUNK, many))
            ]
        )
    return time.perf_counter() - started


def measure(url: str, driver: RedisDriver) -> dict[str, float]:
    """The figures of processes that take JOBS jobs each, and the cost for the server."""
    answers = []
    for _ in range(TIMES):
        for start in range(0, JOBS, CHUNK):
            driver.put(
                [
                    NewJob("bench", PAYLOAD, f"now-{number}")
                    for number in range(start, start + CHUNK)
                ]
            )
        before = server_cpu(driver)
        command = [sys.executable, "-m", __spec__.name, "--take", url]
        answer = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        answers.append(
            {**answer, "server, CPU ms per 1000 jobs": (server_cpu(driver) - before) / JOBS * 1e6}
        )
    return {what: min(answer[what] for answer in answers) for what in answers[0]}


def server_cpu(driver: RedisDriver) -> float:
    told = driver.client.info("cpu")
    return float(told["used_cpu_user"] + told["used_cpu_sys"])


def take(url: str) -> None:
    driver, done, taken = RedisDriver(url), [], 0
    started = time.process_time()
    while taken < JOBS:
        jobs = driver.reserve(["bench"], ROOM, 30, "bench", done)
        done, taken = [job.lease for job in jobs], taken + len(jobs)
    driver.ack(done)
    cpu = (time.process_time() - started) / JOBS * 1e6
    memory = psutil.Process().memory_info().rss / 2**20
    print(json.dumps({"worker, CPU ms per 1000 jobs": cpu, "worker, memory in MB": memory}))


def timed(act: object) -> float:
    started = time.perf_counter()
    act()  # type: ignore[operator]
    return time.perf_counter() - started


if __name__ == "__main__":
    if sys.argv[1:2] == ["--take"]:
        take(sys.argv[2])
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 1_000_000)
