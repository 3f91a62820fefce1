"""Shipping weights that were trained on all participants, in place of those that were selected."""

import dataclasses
import json
import math
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ensemble.candidates import measure
from ensemble.candidates.full_data import FullData
from ensemble.candidates.opening import open_pool
from ensemble.candidates.reproduction import require_result
from ensemble.evaluation import frontier
from ensemble.select import main
from ensemble.tflite import submission
from ensemble.tflite.runtime import Model
from tests.ensemble.conftest import NUM_FOLDS, change_fields, finish, random_classifier, taught
from trainer.common.errors import UserError
from trainer.data.dataset import PackedDataset
from trainer.rundir import RunDir
from trainer.studydir import StudyDir


@pytest.fixture
def full_data(study: Path, packed: PackedDataset, tmp_path: Path) -> Path:
    """Each finished trial, trained on all participants: in another order, with weights of its own."""
    rows = packed.split(NUM_FOLDS, 0)[1]
    known = 3.0 * np.eye(packed.num_signs)[packed.labels[rows]]  # as these participants were trained on
    for number in range(4):
        config = StudyDir(study).trial(number).read_config().replace(all_participants=True)
        model = taught(random_classifier(config.model, seed=100 + number), packed, rows, known)
        run = StudyDir(tmp_path / "all").trial(9 - number)
        finish(run, config, model, packed)
    shutil.copy(study / "study.json", tmp_path / "all")
    return tmp_path / "all"


def _select(monkeypatch: pytest.MonkeyPatch, study: Path, out: Path, *arguments: object) -> dict[str, object]:
    given = ["select", "--results", study, "--out", out, "--budget", "2models", *arguments]
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in given])
    monkeypatch.setattr(frontier, "LEVELS", 1)
    main()
    about: dict[str, object] = json.loads((out / "selection.json").read_text())
    return about


def test_the_file_holds_the_full_data_weights_and_the_numbers_are_of_the_held_out(
    study: Path, full_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(study, tmp_path / "study")
    plain = _select(monkeypatch, copy, tmp_path / "plain")
    assert "all participants" not in capsys.readouterr().out
    shipped = _select(monkeypatch, copy, tmp_path / "shipped", "--ship", full_data)
    assert "what ships can be measured on nobody" in capsys.readouterr().out
    assert plain["accuracy"] == shipped["accuracy"]
    assert (plain["shipped_weights"], shipped["shipped_weights"]) == (None, str(full_data))

    raw = np.random.default_rng(0).random((9, 543, 3), dtype=np.float32)
    mine, theirs = (Model(submission.read(tmp_path / name / "submission.zip"))(raw) for name in ("plain", "shipped"))
    assert np.abs(mine - theirs).max() > 0.01
    pool = open_pool(copy)
    for candidate in pool.candidates:
        full = FullData(full_data).of(candidate)
        assert full.run.read_config() == candidate.run.read_config().replace(all_participants=True)
        assert full.val_accuracy == candidate.val_accuracy


def test_trainings_on_all_participants_are_no_candidates(study: Path, full_data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(study, tmp_path / "study")
    shutil.copytree(full_data / "trials" / "0009", copy / "trials" / "0007")
    pool = open_pool(copy)
    assert "0007" not in {candidate.name for candidate in pool.candidates}
    assert pool.left_out["0007"].startswith("trained on all participants")


def test_a_member_without_a_training_on_all_participants_is_refused(study: Path, full_data: Path) -> None:
    candidate = open_pool(study).candidates[0]
    about = json.loads((full_data / "trials" / "0009" / "done.json").read_text())
    (full_data / "trials" / "0009" / "done.json").write_text(json.dumps({**about, "data_fingerprint": "another"}))
    with pytest.raises(UserError, match="trained on another dataset than trial 0000"):
        FullData(full_data).of(candidate)
    (full_data / "trials" / "0009" / "done.json").unlink()
    results = full_data.parent
    again = f"go on with: python -m search.run --resume --retry-failed --name {full_data.name} --results {results}$"
    with pytest.raises(
        UserError, match=f"trial 0000's configuration and seed, trial 0009 there, is not finished; {again}"
    ):
        FullData(full_data).of(candidate)
    shutil.rmtree(full_data / "trials" / "0009")
    with pytest.raises(UserError, match=f"no finished training of trial 0000's configuration and seed; .*, {again}"):
        FullData(full_data).of(candidate)
    for number in (6, 7, 8):
        (full_data / "trials" / f"{number:04d}" / "done.json").unlink()
    with pytest.raises(UserError, match=f"none of its trainings on all participants is finished; {again}"):
        FullData(full_data)
    command = f"python -m search.refit {study} --ship-of {study}/ensemble/selection.json$"
    with pytest.raises(UserError, match=f"holds no training on all participants; make a study of them with: {command}"):
        FullData(study)
    with pytest.raises(UserError, match=r"holds no study \(no study.json\); it holds .*: give .*/all$"):
        FullData(results)


def test_a_study_of_other_signs_or_other_data_is_not_shipped(study: Path, full_data: Path) -> None:
    pool = open_pool(study)
    FullData(full_data).require_like(pool)
    for field, value in (("label_names", list(pool.label_names[::-1])), ("data_fingerprint", "another's")):
        shutil.copy(study / "study.json", full_data)
        change_fields(full_data / "study.json", **{field: value})
        with pytest.raises(UserError, match=rf"study.json: {field}: is not that of .*small; give a refit of that"):
            FullData(full_data).require_like(pool)


def test_a_training_that_was_not_finished_or_was_swapped_is_left_out(study: Path, full_data: Path) -> None:
    pool, full = open_pool(study), FullData(full_data)
    run = full.of(pool.candidates[0]).run
    change_fields(run.path / "done.json", epochs=1)
    name = pool.candidates[0].name
    assert "done.json: epochs: 1, but config.json has" in full.unshippable(pool.candidates)[name]


def test_what_done_json_says_must_be_what_the_weights_do_to_three_digits(study: Path, full_data: Path) -> None:
    pool = open_pool(study)
    full = FullData(full_data).of(pool.candidates[0])
    require_result(full, pool)
    result = full.run.read_result()
    for change in ({"val_log_loss": result.val_log_loss * 1.01}, {"val_accuracy": result.val_accuracy - 0.06}):
        change_fields(full.run.path / "done.json", **change)
        with pytest.raises(UserError, match=r"and done.json says .*: a file was changed since; train it again"):
            require_result(full, pool)
        full.run.write_result(result)


@pytest.mark.parametrize("factor", [0.0, 1.05, 1e30])
def test_changed_weights_are_not_shipped(
    study: Path, full_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    for run in StudyDir(full_data).trials():
        run.write_weights({name: tensor * factor for name, tensor in run.read_weights().items()})
        run.write_result(run.read_result())  # which has the hashes
    copy = shutil.copytree(study, tmp_path / "study")
    with pytest.raises(
        UserError,
        match=r"--ship: .*/all(/trials/.*: its weights have an accuracy of|: weights)",
    ):
        _select(monkeypatch, copy, tmp_path / "shipped", "--ship", full_data)
    assert not (tmp_path / "shipped" / "submission.zip").exists()


def test_one_training_that_is_not_what_it_is_said_to_be_is_left_out_and_the_others_ship(
    study: Path, full_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(study, tmp_path / "study")
    first = _select(monkeypatch, copy, tmp_path / "first", "--ship", full_data)["members"]
    assert isinstance(first, list)
    number = int(first[0]["trial"])
    run = StudyDir(full_data).trial(9 - number)
    run.write_weights({name: tensor * 0.8 for name, tensor in run.read_weights().items()})
    run.write_result(run.read_result())  # which has the hashes
    second = _select(monkeypatch, copy, tmp_path / "second", "--ship", full_data)
    printed = capsys.readouterr().out.splitlines()
    (line,) = [line for line in printed if "its weights have an accuracy of" in line]
    assert line.startswith("warning: left out, cannot be shipped: ")
    assert line.endswith(f": {number:04d}")
    assert "its weights have an accuracy of" in str(second["left_out"])
    assert isinstance(second["members"], list)
    assert f"{number:04d}" not in [member["trial"] for member in second["members"]]


def test_weights_that_know_the_people_they_were_trained_on_less_than_the_trial_they_repeat_do_not_ship(
    study: Path, full_data: Path
) -> None:
    pool = open_pool(study)
    full = FullData(full_data).of(pool.candidates[3])
    run = full.run
    assert run.read_result().val_accuracy > 0.9
    require_result(full, pool, 1.0)
    run.write_weights({name: tensor * 0 for name, tensor in run.read_weights().items()})
    level, loss = float(np.mean(pool.validation.labels == 0)), math.log(len(pool.label_names))
    run.write_result(dataclasses.replace(run.read_result(), val_accuracy=level, val_log_loss=loss))
    require_result(full, pool, level)
    with pytest.raises(
        UserError, match=r"0006: its weights have an accuracy of 0\.\d+ on people that they were tr.*again"
    ):
        require_result(full, pool, 1.0)


def scale(run: RunDir) -> None:
    run.write_weights({name: tensor * 1.05 for name, tensor in run.read_weights().items()})


def forget_hashes(run: RunDir) -> None:
    """As an earlier version left it."""
    about = json.loads((run.path / "done.json").read_text())
    (run.path / "done.json").write_text(json.dumps({name: about[name] for name in about if name != "sha256"}))


def store_nan(run: RunDir) -> None:
    forget_hashes(run)
    run.write_weights({name: tensor * float("nan") for name, tensor in run.read_weights().items()})


UNSHIPPABLE: dict[str, tuple[Callable[[RunDir], object], str]] = {
    "missing": (lambda run: shutil.rmtree(run.path), "holds no finished training of its configuration and seed"),
    "unfinished": (lambda run: (run.path / "done.json").unlink(), "trial 0009 there, is not finished"),
    "other data": (
        lambda run: change_fields(run.path / "done.json", data_fingerprint="another"),
        "was trained on another dataset than trial 0000",
    ),
    "changed": (scale, "/0009: weights.safetensors: is not the file that the training left; train it again"),
    "weights gone": (lambda run: (run.path / "weights.safetensors").unlink(), "/0009: weights.safetensors: "),
    "not finite": (store_nan, "/0009: weights.safetensors: .* not finite; train it again"),
}


@pytest.mark.parametrize("fault", list(UNSHIPPABLE))
def test_what_cannot_be_shipped_is_found_before_anything_is_measured(
    study: Path,
    full_data: Path,
    fault: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    act, words = UNSHIPPABLE[fault]
    pool = open_pool(study)
    act(RunDir(full_data / "trials" / "0009"))
    unshippable = FullData(full_data).unshippable(pool.candidates)
    assert list(unshippable) == ["0000"]
    assert re.match(f"cannot be shipped: .*{words}", unshippable["0000"]), unshippable["0000"]
    for number in (6, 7, 8):
        shutil.rmtree(full_data / "trials" / f"{number:04d}")
    monkeypatch.setattr(measure, "reproducible", lambda *_: pytest.fail("measured"))
    with pytest.raises(UserError, match=r"--ship: .*/all"):
        _select(monkeypatch, shutil.copytree(study, tmp_path / "study"), tmp_path / "out", "--ship", full_data)


def test_weights_for_shipping_of_an_earlier_version_are_taken_without_hashes(study: Path, full_data: Path) -> None:
    for run in StudyDir(full_data).trials():
        forget_hashes(run)
    assert FullData(full_data).unshippable(open_pool(study).candidates) == {}
