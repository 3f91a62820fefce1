"""A submission.zip or .tflite file, into ensemble.predict and ensemble.check."""

import shutil
from pathlib import Path
from typing import Final
from unittest import mock

from tests.fuzz.attempt import Verdict, judge, run
from tests.fuzz.doors import Door, Try, link_tree
from tests.fuzz.valid import CONTEST, LANDMARK_FILES, SIGNS, SUBMISSION

FILES: Final = {SUBMISSION: ("zip", "bytes")}
LONGEST: Final = 20
"""Frames of the longest sequence that ensemble.check plays here, in place of 600"""


def lay(valid: Path) -> None:
    link_tree(valid / CONTEST, Path(CONTEST))
    shutil.copy(valid / SUBMISSION, ".")


def try_predict(_: Try) -> list[Verdict]:
    ran = run("ensemble.predict", SUBMISSION, f"{CONTEST}/{LANDMARK_FILES[0]}")
    return [judge(ran, lambda: _wrong_line(ran.stdout), names=[SUBMISSION, Path(LANDMARK_FILES[0]).name], files=[])]


def _wrong_line(stdout: str) -> str:
    """One line of probabilities. What a changed model predicts cannot be known, but they add up."""
    lines = stdout.splitlines()
    if len(lines) != 1:
        return f"{len(lines)} lines, not one"
    signs = [text.rpartition(" ") for text in lines[0].split("\t")[1:]]
    probs = [float(prob) for _, _, prob in signs]
    if not probs or probs != sorted(probs, reverse=True) or min(probs) < 0:
        return f"no probabilities: {lines[0][:200]}"
    if len(probs) <= SIGNS and not 0.99 < sum(probs) < 1.01:
        return f"probabilities that add up to {sum(probs):.4g}"
    return ""


def try_check(_: Try) -> list[Verdict]:
    with (
        mock.patch("ensemble.ship.contract.LONGEST", LONGEST),
        mock.patch("ensemble.tflite.latency.ROUNDS", 1),
    ):
        ran = run("ensemble.check", SUBMISSION)
    verdict = judge(ran, lambda: "" if "holds" in ran.stdout else "no clause", names=[SUBMISSION], files=[], most=60.0)
    return [verdict]


DOORS: Final = (
    Door("submission", 10, FILES, lay, try_predict),
    Door("submission check", 2, FILES, lay, try_check, fast_share=1),
)
