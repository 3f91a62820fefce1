"""What is said at the end of a search."""

import contextlib
from pathlib import Path
from unittest import mock

import pytest

import search.run
from search.execute import cluster


@pytest.mark.parametrize(("name", "called"), [("a", False), (None, False), ("a", True)])
def test_an_interruption_at_the_start_says_how_to_go_on(
    name: str | None,
    called: bool,
    tmp_path: Path,
    packed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster, "connect", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(cluster, "check_nodes", lambda *_: None)
    monkeypatch.setattr("search.execute.driver.SearchStudy", interrupt)
    argv = [
        "sign-ensemble search" if called else "search.run",
        "--trials",
        "1",
        "--results",
        str(tmp_path),
        "--data",
        str(packed),
    ]
    argv += [] if name is None else ["--name", name]
    argv += ["--cpus-per-trial", "2", "--gpus-per-trial", "0.25"]
    with mock.patch("sys.argv", argv), pytest.raises(KeyboardInterrupt):
        search.run.main()
    command = "sign-ensemble search" if called else "python -m search.run"
    (study,) = tmp_path.iterdir()
    assert name in (study.name, None)
    assert capsys.readouterr().out == (
        f"go on with:\n  {command} --resume --name {study.name} --results {tmp_path} --cpus-per-trial 2 "
        "--gpus-per-trial 0.25\n"
    )
