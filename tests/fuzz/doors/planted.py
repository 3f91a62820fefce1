"""Doors with faults of their own, by which the suite shows that it finds faults. No hunt goes through them."""

import ctypes
import json
import time
from pathlib import Path
from typing import Final
from unittest import mock

from tests.fuzz.attempt import Verdict, judge, run
from tests.fuzz.doors import Door, Try
from trainer.common.errors import UserError

FILE: Final = "planted.json"


def _lay(_: Path) -> None:
    Path(FILE).write_text(json.dumps({"crash": 0, "hang": 0, "fine": [1, 2, 3]}))


def _work() -> None:
    try:
        content = json.loads(Path(FILE).read_text())
    except ValueError as error:
        raise UserError(f"{FILE}: is no JSON; write it again") from error
    if "crash" not in content:
        ctypes.string_at(0)
    while "hang" not in content:
        time.sleep(1)


def _attempt(attempt: Try) -> list[Verdict]:
    with mock.patch("trainer.pack.main", _work):
        ran = run("trainer.pack")
    return [judge(ran, lambda: "", names=attempt.names, files=[])]


DOORS: Final = {"planted": Door("planted", 0, {FILE: ("json", "bytes")}, _lay, _attempt)}
