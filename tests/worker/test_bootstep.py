"""What the recorder of a worker writes, and in which order."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from relevo import config
from relevo.app import create_app
from relevo.errors import DriverUnavailableError
from relevo.recording.results import CapturedResult
from relevo.store.batch_counts import COMPLETED
from relevo.store.batches import MemberEnd
from relevo.store.outcomes import Ending
from relevo.transport.context import WorkerContext
from relevo.worker.bootstep import start_recording


def test_no_member_is_counted_while_its_result_can_not_be_written(tmp_path, monkeypatch):
    """What its count hands in, a chord's body, reads the result."""
    url = f"sqlite:///{tmp_path}/store.sqlite3"
    app = create_app("shop", config.load({"DATABASE_URL": url}, env_file=None))
    away, taken = [True], []

    def write_captured(items):
        if away[0]:
            raise ConnectionError
        taken.extend(items)

    monkeypatch.setattr(
        "relevo.recording.results.ResultWriter._by_backend",
        lambda _self, found: [
            (SimpleNamespace(write_captured=write_captured), [each.item for each in found])
        ],
    )
    context = WorkerContext()
    start_recording(app, context)
    end = MemberEnd("b", 0, COMPLETED, "job")
    ending = Ending(listed=False, members=(end,), results=(CapturedResult("add", "three"),))
    try:
        with pytest.raises(DriverUnavailableError):
            context.recorder.write([ending])
        away[0] = False
        context.recorder.write([ending])
    finally:
        context.close()
    assert taken == ["three"]
