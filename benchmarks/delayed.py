"""What a million delayed jobs cost a worker on Redis: its rate of taking jobs and its memory, with and without.

`python -m benchmarks.delayed [how many]` prints ratios: 1.00 is as without them.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

from relevo.drivers.contract import NewJob, State
from relevo.drivers.redis.driver import RedisDriver
from tests import servers

CHUNK, JOBS, ROOM = 5_000, 20_000, 10
PAYLOAD = json.dumps({"body": "x" * 200})


def main(many: int) -> None:
    with servers.redis() as url:
        driver = RedisDriver(url, {"socket_timeout": 60})
        measured(url, driver)  # the first is the server's warming up
        without = measured(url, driver)
        seconds = put(driver, many)
        with_them = measured(url, driver)
        report("jobs taken and acked per second", without["rate"], with_them["rate"])
        report("memory of the worker, MB", without["memory"], with_them["memory"])
        print(f"{many / seconds:,.0f} put per second; counted, listed and cleared in "
              f"{timed(lambda: driver.sizes('bench')) * 1000:.1f} ms, "
              f"{timed(lambda: driver.peek('bench', State.DELAYED)) * 1000:.1f} ms and "
              f"{timed(lambda: driver.clear('bench')):.1f} s")  # fmt: skip


def put(driver: RedisDriver, many: int) -> float:
    later = driver.now() + 100_000
    return timed(lambda: [
        driver.put([NewJob("bench", PAYLOAD, f"later-{number}", available_at=later + number)
                    for number in range(start, min(start + CHUNK, many))])
        for start in range(0, many, CHUNK)
    ])  # fmt: skip


def measured(url: str, driver: RedisDriver) -> dict[str, float]:
    """What a process of its own says that takes JOBS jobs."""
    for start in range(0, JOBS, CHUNK):
        driver.put([NewJob("bench", PAYLOAD, f"now-{number}") for number in range(start, start + CHUNK)])
    said = subprocess.run([sys.executable, "-m", __spec__.name, "--take", url], check=True, capture_output=True).stdout
    answer: dict[str, float] = json.loads(said)
    return answer


def take(url: str) -> None:
    driver, done, taken = RedisDriver(url), [], 0
    started = time.perf_counter()
    while taken < JOBS:
        jobs = driver.reserve(["bench"], ROOM, 30, "bench", done)
        done, taken = [job.lease for job in jobs], taken + len(jobs)
    driver.ack(done)
    rate = JOBS / (time.perf_counter() - started)
    print(json.dumps({"rate": rate, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def timed(act: object) -> float:
    started = time.perf_counter()
    act()  # type: ignore[operator]
    return time.perf_counter() - started


def report(what: str, without: float, with_them: float) -> None:
    print(f"{what}: {without:,.1f} without, {with_them:,.1f} with, ratio {with_them / without:.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--take"]:
        take(sys.argv[2])
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 1_000_000)
