"""A study's files: what is written can be read again, and what is broken or of another version is named."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from trainer.common.errors import UserError
from trainer.config import TrainConfig
from trainer.studydir import (
    ENSEMBLE,
    SELECTION,
    STUDY_JSON,
    SUBMISSION,
    Folder,
    StudyDir,
    for_reports,
    read_selection,
    require_as_written,
    resume_command,
    studies_in,
    write_frontier,
    write_selection,
)

REQUEST: dict[str, Any] = {"label_names": ["a", "b"], "data": "/packed", "base_config": {}, "seed": 3}


def test_a_request_is_read_as_it_was_written(tmp_path: Path) -> None:
    study = StudyDir(tmp_path)
    assert not study.exists
    study.write_request(REQUEST)
    assert study.exists
    assert study.read_request() == REQUEST


def test_a_folder_of_studies_names_the_last_made_ones(tmp_path: Path) -> None:
    for age, name in enumerate(("b", "d", "a", "c")):
        StudyDir(tmp_path / name).write_request(REQUEST)
        os.utime(tmp_path / name / "study.json", (1e9 - age, 1e9 - age))
    said = f"holds studies: give {tmp_path}/b, {tmp_path}/d, {tmp_path}/a or one of 1 more"
    with pytest.raises(UserError, match=f"{said}$"):
        StudyDir(tmp_path).read_request()
    assert studies_in(tmp_path, like="dd")[0] == "d"
    with pytest.raises(UserError, match=f"/aa: holds no study .*; there are {tmp_path}/a, .*; make one with"):
        StudyDir(tmp_path / "aa").read_request()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "holds no study"),
        ("{", "study.json: cannot be read"),
        ("[]", "study.json: must hold a JSON object"),
        (json.dumps(REQUEST), "format_version is null"),
        (json.dumps({"format_version": True, **REQUEST}), "format_version is true"),
        (json.dumps({"format_version": [1] * 9_000}), "format_version is a list, written by another version"),
        (json.dumps({"format_version": "x" * 9_000}), r"format_version is 'x{39}\.\.\., written by another version"),
        (json.dumps({"format_version": 9, "versions": {"sign-ensemble-search": "7.1"}}), r"is 9, written by .* 7\.1"),
        (json.dumps({"format_version": 1, **REQUEST, "data": 3}), "study.json: data: must be text, not 3; bring"),
        (
            json.dumps({"format_version": 1, **REQUEST, "label_names": ["a", 2]}),
            "label_names: must be a list, each item",
        ),
        (json.dumps({"format_version": 1, **REQUEST, "base_config": {"epochs": 2**64}}), "does not fit into 64 bits"),
        (
            json.dumps({"format_version": 1, **REQUEST, "base_config": {"model": 3}}),
            "study.json: model: must be an obj",
        ),
        ("[" * 100_000, r"study.json: cannot be read \(nested too deeply\); bring the file back"),
    ],
)
def test_a_request_that_cannot_be_read_is_named(content: str | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / STUDY_JSON).write_text(content)
    with pytest.raises(UserError, match=words):
        StudyDir(tmp_path).read_request()


def test_a_selection_of_another_version_is_named(tmp_path: Path) -> None:
    study = StudyDir(tmp_path)
    assert study.read_selection() is None
    write_selection(tmp_path / ENSEMBLE, {"members": []})
    fields = study.read_selection()
    assert fields is not None
    assert fields["members"] == []
    path = tmp_path / ENSEMBLE / SELECTION
    path.write_text(path.read_text().replace('"format_version": 2', '"format_version": 1'))
    with pytest.raises(UserError, match=r"selection\.json: format_version is 1"):
        study.read_selection()


def test_a_selection_and_its_files_are_what_was_written(tmp_path: Path) -> None:
    (tmp_path / SUBMISSION).write_bytes(b"one")
    write_selection(tmp_path, {"accuracy": {"ensemble": 0.1 + 0.2}, "trials": ("0001",)})
    fields = read_selection(tmp_path)
    assert fields is not None
    require_as_written(tmp_path, fields)
    with pytest.raises(
        UserError, match=r"selection\.json: was changed since it was written; run ensemble.select again"
    ):
        require_as_written(tmp_path, {**fields, "accuracy": {"ensemble": 0.9}})
    (tmp_path / SUBMISSION).write_bytes(b"two")
    with pytest.raises(UserError, match=r"submission\.zip: is not the file that selection.json tells of; run"):
        require_as_written(tmp_path, fields)
    require_as_written(tmp_path, fields, files=())
    (tmp_path / SUBMISSION).unlink()
    require_as_written(tmp_path, fields)
    require_as_written(tmp_path, {"accuracy": 0.9})  # as version 0.1 wrote it


def test_a_frontier_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [{"kind": "single", "trials": ["0001"], "unseen_accuracy": None, "size": 2.0}]
    write_frontier(tmp_path / ENSEMBLE, rows)
    assert StudyDir(tmp_path).read_frontier() == rows


def test_trials_are_listed_by_number(tmp_path: Path) -> None:
    for name in ("0002", "10000", "0011", "notes"):
        (tmp_path / "trials" / name).mkdir(parents=True)
    assert [run.path.name for run in StudyDir(tmp_path).trials()] == ["0002", "0011", "10000"]


def test_a_study_behind_a_uri_is_worked_on_in_a_copy_and_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    where = tmp_path / "asl"
    StudyDir(where).write_request({"label_names": []})
    (where / "trials" / "0001").mkdir(parents=True)
    (where / "trials" / "0001" / "checkpoint.safetensors").touch()
    here, there = Folder.open(where), Folder.open(where.as_uri())
    assert (here.path, here.remote) == (where, None)
    assert there.path != where
    assert [path.name for path in there.path.rglob("*") if path.is_file()] == [STUDY_JSON]
    (there.path / "report.html").write_text("page")
    assert not (where / "report.html").exists()
    there.publish("report.html")
    assert (where / "report.html").read_text() == "page"
    assert there.show(there.path / "report.html") == f"{where.as_uri()}/report.html"
    assert here.show(where / "report.html") == str(where / "report.html")
    assert here.can_write("ensemble")
    assert there.can_write("ensemble")


def test_one_more_file_of_a_study_behind_a_uri_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    where = tmp_path / "asl"
    (where / "trials" / "0001").mkdir(parents=True)
    (where / "trials" / "0001" / "val_probs.npy").write_text("probs")
    there = Folder.open(where.as_uri(), for_reports)
    assert not list(there.path.rglob("val_probs.npy"))
    there.fetch("trials/0001/val_probs.npy")
    assert (there.path / "trials" / "0001" / "val_probs.npy").read_text() == "probs"
    there.fetch("trials/0002/val_probs.npy")  # which is not there
    assert not (there.path / "trials" / "0002").exists()
    Folder.open(where).fetch("trials/0002/val_probs.npy")  # a folder has what it has


def test_a_trial_that_study_json_did_not_ask_for_is_named(tmp_path: Path) -> None:
    study, base = StudyDir(tmp_path), TrainConfig()
    request = {**REQUEST, "base_config": base.to_json(), "trials": 4, "space": {"num_heads": {}, "dropout": [{}, 0.1]}}
    run, config = study.trial(3), base.replace(num_heads=7, dropout=0.3, seed=3)
    study.require_own(run, config, request)
    study.require_own(run, config, REQUEST)  # as of a study that does not say
    study.require_own(run, base.replace(seed=8), {**request, "space": {"seed": {}}})
    study.require_own(study.trial(9), config.replace(seed=9), {**request, "warm_start": ["/earlier"]})
    with pytest.raises(UserError, match=r"^is not one of the 4 trials that study.json asks for"):
        study.require_own(study.trial(4), config, request)
    for changed, words in ((config.replace(fold=1), "fold: 1, but study.json has 0"), (base, "seed: 0, but .* has 3")):
        with pytest.raises(UserError, match=rf"^config.json: {words} for it"):
            study.require_own(run, changed, request)


def test_the_folder_that_one_stands_in_is_resumed_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = f"python -m search.run --resume --name {tmp_path.name} --results {tmp_path.parent}"
    assert resume_command(".") == command
    assert resume_command("results/asl") == "python -m search.run --resume --name asl"


def test_a_copy_of_a_trials_folder_is_no_trial(tmp_path: Path) -> None:
    for name in ("0002", "00002", "2", "12345", "x"):
        (tmp_path / "trials" / name).mkdir(parents=True)
    assert [run.path.name for run in StudyDir(tmp_path).trials()] == ["0002", "12345"]
