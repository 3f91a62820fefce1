"""The command that packs: what it prints, and what it refuses."""

import importlib
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from trainer.common import cli
from trainer.data.packing import Skipped
from trainer.pack import _table_of_skipped

LONG = f"train_landmark_files/30680/{'1033181756' * 9}.parquet"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "empty",
            "not the contest's folder (no train.csv, no sign_to_prediction_index_map.json); give the one that has",
        ),
        ("typo", "no such folder; give the contest's, with train.csv and sign_to_prediction_index_map.json"),
    ],
)
def test_a_wrong_folder_ends_in_one_line_that_names_it_once(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    command = [sys.executable, "-m", "trainer.pack", str(tmp_path / name), str(tmp_path / "out")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"error: {tmp_path / name}: {words}")
    assert (ended.stderr.count(str(tmp_path)), ended.stderr.count("\n")) == (1, 1)
    assert not (tmp_path / "out").exists()


def test_the_command(generated: Path, tmp_path: Path) -> None:
    source = shutil.copytree(generated, tmp_path / "source")
    with (source / "train.csv").open("a") as file:
        file.write(f"[/odd].parquet,1,1,sign000\n{LONG},1,2,sign000\n")
    command = [sys.executable, "-m", "trainer.pack", str(source), str(tmp_path / "out")]
    failed = subprocess.run([*command, "--workers", "1"], capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert "no such file" in failed.stderr
    assert "Traceback" not in failed.stderr
    done = subprocess.run([*command, "--skip-bad"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "72 sequences" in done.stdout
    assert "left out: 2" in done.stdout
    assert done.stdout.endswith(f"\nnext: python -m search.run --data {tmp_path / 'out'}\n")
    assert re.search(r"^ *\[/odd\]\.parquet +no such file", done.stdout, re.MULTILINE), done.stdout
    assert re.search(rf"^ *{LONG} +no such file", done.stdout, re.MULTILINE)


def test_the_table_of_skipped_keeps_paths_whole_on_a_terminal() -> None:
    console = Console(width=60, file=io.StringIO())
    console.print(_table_of_skipped([Skipped("landmarks/30680/1033181756.parquet", "why " * 30)], 40))
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "landmarks/30680/1033181756.parquet" in printed
    assert max(map(len, printed.splitlines())) <= 60


def test_a_sign_with_a_comma_can_be_chosen(generated: Path, tmp_path: Path) -> None:
    source = shutil.copytree(generated, tmp_path / "source")
    for name in ("train.csv", "sign_to_prediction_index_map.json"):
        text = (source / name).read_text()
        (source / name).write_text(text.replace("sign003", "yes, please"))
    command = [sys.executable, "-m", "trainer.pack", str(source), str(tmp_path / "out"), "--workers", "1", "--signs"]
    typo = subprocess.run([*command, "yes, plese"], capture_output=True, text=True, check=False)
    assert typo.returncode == 2
    assert "has no sign 'yes'; did you mean 'yes, please'?" in typo.stderr
    done = subprocess.run([*command, "sign000,yes, please"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "24 sequences" in done.stdout
    assert "2 of 2 signs" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "0"], "--workers: must be a whole number of at least 1, not 0"),
        (["--signs", "sgn003"], "--signs: .*no sign 'sgn003'; did you mean 'sign003'\\?"),
        (["--workers", "1", "--sings", "a"], "--sings: there is no such option; did you mean --signs\\?"),
    ],
)
def test_a_wrong_option_ends_in_one_line_that_names_it(
    words: list[str],
    message: str,
    generated: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["pack", str(generated), str(tmp_path / "out"), *words])
    with pytest.raises(SystemExit) as ended:
        cli.run(importlib.import_module("trainer.pack").main)
    assert ended.value.code == 2
    assert re.match(f"error: .*{message}", capsys.readouterr().err)
