"""The command that tests a submission against the contest's rules."""

import re
import sys
import zipfile
from pathlib import Path

import pytest

from ensemble.check import main
from ensemble.tflite import latency
from tests.ensemble.conftest import NUM_SIGNS, written
from trainer.common.console import console
from trainer.common.errors import UserError


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["check", *map(str, arguments)])
    monkeypatch.setattr("ensemble.ship.contract.LONGEST", 30)
    monkeypatch.setattr(console, "width", 200)
    main()


def test_the_command(
    small_model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run(monkeypatch, written(tmp_path, small_model), "--latency-scale", "2.5", "--threads", "2")
    printed = capsys.readouterr().out
    assert f"gives float32 [{NUM_SIGNS}], all finite, for 30 lengths up to 30 frames" in printed
    assert "LiteRT, 2 threads" in printed
    assert "times 2.5 for the target" in printed
    assert re.match(r"runs sequences of 1 to 30 frames: about \d+ s$", printed.splitlines()[0])
    assert printed.splitlines()[-1] == (
        f"{tmp_path}/submission.zip: no submission for the contest, which has 250 signs: a sound file of {NUM_SIGNS} "
        "signs, for which all 10 clauses of its contract hold"
    )
    assert "broken" not in printed
    monkeypatch.setattr("ensemble.ship.contract.CONTEST_SIGNS", NUM_SIGNS)
    run(monkeypatch, written(tmp_path, small_model))
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{tmp_path}/submission.zip: a submission for the contest: all 10 clauses of its contract hold"
    )


def test_the_command_holds_time_against_the_limit(
    small_model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    timed = latency.Latency(mean=50.5, median=1, p95=1)
    monkeypatch.setattr(latency, "measure", lambda *_, **__: timed)
    run(monkeypatch, written(tmp_path, small_model))
    with pytest.raises(UserError, match="breaks 1 of 10 clauses"):
        run(monkeypatch, written(tmp_path, small_model), "--latency-scale", "2")
    assert "101.00ms" in capsys.readouterr().out


def test_the_command_holds_size_and_time_against_the_limits_whatever_else_is_broken(
    small_model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path = written(tmp_path, small_model)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "")
    with pytest.raises(UserError, match="breaks 1 of 10 clauses"):
        run(monkeypatch, path)
    assert "a sequence on average" in capsys.readouterr().out


@pytest.mark.parametrize("threads", ["0", "100000", "two"])
def test_threads_must_be_as_many_as_litert_can_have(monkeypatch: pytest.MonkeyPatch, threads: str):
    with pytest.raises(UserError, match="--threads"):
        run(monkeypatch, "submission.zip", f"--threads={threads}")


@pytest.mark.parametrize("scale", ["0", "-1", "inf", "nan", "fast", "1e308"])
def test_a_scale_must_be_a_positive_number(monkeypatch: pytest.MonkeyPatch, scale: str):
    with pytest.raises(UserError, match="--latency-scale"):
        run(monkeypatch, "submission.zip", f"--latency-scale={scale}")
