"""From options to a checked request."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from search import prepare
from search.decide.study import SearchStudy
from search.options import SearchOptions
from search.prepare import new_study, resumed_study
from search.problem.space import DEFAULT_SPACE, RECIPE, SMALL_SPACE, SMALL_START, Space
from search.record.request import Request
from tests.outcomes import result_of
from tests.search.test_run import _options, _write
from trainer import PackedDataset, pack, synthesize
from trainer.common.errors import UserError
from trainer.config import TrainConfig
from trainer.studydir import StudyDir


def test_a_database_file_is_the_same_from_every_folder(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["search.run", "--trials", "1", "--name", "a", "--data", str(packed), "--storage", "sqlite:///its.db"]
    monkeypatch.setattr(sys, "argv", argv)
    request, _ = new_study(_options(), StudyDir(tmp_path / "a"))
    assert request.storage == f"sqlite:///{tmp_path}/its.db"


def test_an_older_study_goes_on_in_its_relative_database(
    tmp_path: Path, packed: Path, base: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, packed, base, storage="sqlite:///its.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["search.run", "--resume", "--name", "a", "--storage", "sqlite:///its.db"])
    assert resumed_study(_options(), StudyDir(tmp_path))[0].trials == 2


def test_a_study_behind_a_uri_needs_no_database_to_go_on(
    tmp_path: Path, packed: Path, base: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, packed, base)
    (tmp_path / "trials" / "0000").mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["search.run", "--resume", "--name", "a", "--results", f"file://{tmp_path}"])
    assert resumed_study(_options(), StudyDir(tmp_path))[0].trials == 2


def test_a_study_is_resumed_by_the_same_call_with_what_it_was_made_with(
    tmp_path: Path, packed: Path, base: TrainConfig
) -> None:
    _write(tmp_path, packed, base)
    request = Request.read(StudyDir(tmp_path))
    asked: dict[str, Any] = {"epochs": request.epochs, "seed": request.seed, "space": request.space}
    asked |= {"sampler": request.sampler, "pruner": request.pruner, "objective": request.objective}
    again, _ = resumed_study(SearchOptions(name="a", resume=True, **asked), StudyDir(tmp_path))
    assert again.epochs == request.epochs
    other: dict[str, Any] = {"space": {"num_heads": {"type": "int", "low": 1, "high": 7}}, "epochs": request.epochs + 1}
    for name, value in other.items():
        with pytest.raises(UserError, match=f"{name}: was settled when"):
            resumed_study(SearchOptions(name="a", resume=True, **{**asked, name: value}), StudyDir(tmp_path))


def test_other_epochs_are_refused_with_the_command_that_trains_the_best_for_them(
    tmp_path: Path, packed: Path, base: TrainConfig
) -> None:
    _write(tmp_path, packed, base)
    options = SearchOptions(name="a", resume=True, epochs=9, results="results")
    with pytest.raises(UserError, match=r"falls over 4 epochs, so none can go on; begin a new study of 9 epochs$"):
        resumed_study(options, StudyDir(tmp_path))
    for number, seed in enumerate((0, 1, 1)):  # the last two differ in their random seed alone
        run = StudyDir(tmp_path).trial(number)
        run.path.mkdir(parents=True)
        run.write_config(base.replace(num_layers=1 + seed, seed=number))
        run.write_result(result_of(4, 0.5))
    command = "python -m search.refit results/a --top 2 --seeds 1 --epochs 9 --name a-9-epochs"
    with pytest.raises(UserError, match=f"train its best configurations anew: {command}$"):
        resumed_study(options, StudyDir(tmp_path))


def test_configurations_of_the_users_own_are_kept_where_there_is_room_for_them(tmp_path: Path, packed: Path) -> None:
    space = {"num_layers": {"type": "int", "low": 1, "high": 2}, "dropout": {"type": "float", "low": 0.0, "high": 0.4}}
    options = SearchOptions(
        name="a", data=str(packed), results=str(tmp_path), space=space, trials=2, try_=({"dropout": "0.25"},)
    )
    study = StudyDir(tmp_path / "a")
    study.path.mkdir()
    request, _ = new_study(options, study)
    assert request.tries == [{"dropout": 0.25}]
    with pytest.raises(UserError, match=r"^try_: dropout: 0.5 is not a number from 0 to 0.4"):
        new_study(dataclasses.replace(options, try_=({"dropout": "0.5"},)), study)
    with pytest.raises(UserError, match=r"^try_: the study has 2 trials, .* beside 0 others; ask for at least 3"):
        new_study(dataclasses.replace(options, try_=({"dropout": 0.1},) * 3), study)
    request.write(study)
    digest = request.digest
    more = SearchOptions(name="a", results=str(tmp_path), resume=True, try_=({"num_layers": 2},))
    again, _ = resumed_study(more, study)
    assert (again.tries, again.digest) == ([{"dropout": 0.25}, {"num_layers": 2}], digest)
    search = SearchStudy(study, request)
    assert [search.ask() is not None for _ in range(2)] == [True, True]
    search.close()
    with pytest.raises(UserError, match=r"^try_: .* leave no room beside 1 others; ask for at least 3"):
        resumed_study(more, study)
    assert len(resumed_study(dataclasses.replace(more, trials=3), study)[0].tries) == 2


def test_too_few_participants_for_the_folds_are_refused_with_what_to_write(tmp_path: Path, packed: Path) -> None:
    space = {"num_heads": {"type": "int", "low": 1, "high": 2}, "num_folds": 99}
    options = SearchOptions(name="a", data=str(packed), results=str(tmp_path), space=space)
    with pytest.raises(
        UserError,
        match=r"participants cannot be dealt into 99 folds; choose 2 to \d+, or leave num_folds out of the space",
    ) as refusal:
        new_study(options, StudyDir(tmp_path / "a"))
    assert refusal.value.field == "space"
    new_study(dataclasses.replace(options, space=space | {"num_folds": 2}), StudyDir(tmp_path / "a"))


def test_a_space_of_gigantic_models_is_refused_before_one_is_built(tmp_path: Path, packed: Path) -> None:
    space = {"num_layers": {"type": "int", "low": 100_000_000, "high": 100_000_001}}
    options = SearchOptions(name="a", data=str(packed), results=str(tmp_path), space=space)
    for limit in (None, 1_000_000):
        with pytest.raises(UserError, match=r"^space: even its smallest model is too large: .* a \.tflite file"):
            new_study(dataclasses.replace(options, max_params=limit), StudyDir(tmp_path / "a"))


def test_of_few_sequences_no_trial_is_stopped_in_the_first_quarter(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = SearchOptions(name="a", data=str(packed), results=str(tmp_path))
    request, _ = new_study(options, StudyDir(tmp_path / "a"))
    assert request.earliest_stop == 15  # 96 sequences have been seen 1,440 times
    told = capsys.readouterr().out
    assert "no trial is stopped before epoch 15: of 96 sequences, less training does not tell" in told
    monkeypatch.setattr(prepare, "FEWEST_SEEN", 700)
    assert new_study(options, StudyDir(tmp_path / "a"))[0].earliest_stop == 8  # 7.3 times 96
    asked = dataclasses.replace(options, epochs=8)
    assert new_study(asked, StudyDir(tmp_path / "a"))[0].earliest_stop == 2


def test_no_trial_is_stopped_before_its_training_tells(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prepare, "FEWEST_SEEN", 0)  # steps alone
    batch_size = {"type": "int", "low": 4, "high": 16}
    space = {"dropout": {"type": "float", "low": 0.0, "high": 0.4}, "batch_size": batch_size, "num_folds": 5}
    options = SearchOptions(name="a", data=str(packed), results=str(tmp_path), space=space, epochs=60)
    request, _ = new_study(options, StudyDir(tmp_path / "a"))
    assert request.earliest_stop == 4  # 96 sequences: 6 steps an epoch of batches of 16
    told = capsys.readouterr().out
    assert "an epoch has 6 optimizer steps (96 sequences, batch_size 16): trials learn little in one" in told
    assert "stopped before" not in told  # the rung comes after epoch 4 anyway
    new_study(dataclasses.replace(options, epochs=20), StudyDir(tmp_path / "a"))
    assert "no trial is stopped before epoch 4: 20 steps, which training needs" in capsys.readouterr().out
    new_study(dataclasses.replace(options, epochs=4), StudyDir(tmp_path / "a"))
    assert "no trial is stopped early: 20 steps" in capsys.readouterr().out
    chosen = {name: value for name, value in space.items() if name != "batch_size"}
    new_study(dataclasses.replace(options, epochs=9, space=chosen), StudyDir(tmp_path / "a"))
    told = capsys.readouterr().out
    assert "an epoch has 12 optimizer steps" not in told
    few = chosen | {"num_folds": 2, "steps_per_epoch": 6}
    new_study(dataclasses.replace(options, epochs=9, space=few), StudyDir(tmp_path / "a"))
    told = capsys.readouterr().out
    assert "trials learn little in one; more epochs give more" in told  # the size was not asked for
    asked = dataclasses.replace(options, epochs=20, space=space | {"batch_size": 1})
    assert new_study(asked, StudyDir(tmp_path / "a"))[0].earliest_stop == 1
    asked = dataclasses.replace(options, epochs=20, space=space | {"steps_per_epoch": 12})
    assert new_study(asked, StudyDir(tmp_path / "a"))[0].earliest_stop == 2
    assert "an epoch has" not in capsys.readouterr().out


def test_each_of_few_participants_is_a_fold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synthesize(tmp_path / "raw", num_signs=2, num_participants=3, repeats=1)
    pack(tmp_path / "raw", tmp_path / "packed")
    options = SearchOptions(name="a", data=str(tmp_path / "packed"), results=str(tmp_path))
    capsys.readouterr()
    request, dataset = new_study(options, StudyDir(tmp_path / "a"))
    assert request.to_config().num_folds == 3
    assert "3 participants: each is a fold of its own" in capsys.readouterr().out
    assert [len(fold) for fold in dataset.folds(3)] == [1, 1, 1]
    space = {"num_heads": {"type": "int", "low": 1, "high": 2}, "num_folds": 2}
    assert new_study(dataclasses.replace(options, space=space), StudyDir(tmp_path / "a"))[0].to_config().num_folds == 2
    assert "fold of its own" not in capsys.readouterr().out


def test_signs_of_which_nobody_is_trained_on_are_told(
    tmp_path: Path, packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthesize(tmp_path / "raw", num_signs=3, num_participants=2, repeats=2)
    table = pd.read_csv(tmp_path / "raw" / "train.csv")
    first = table["participant_id"].min()
    alone = table["sign"] == table["sign"].max()
    table[~alone | (table["participant_id"] == first)].to_csv(tmp_path / "raw" / "train.csv", index=False)
    pack(tmp_path / "raw", tmp_path / "packed")
    dataset = PackedDataset.open(tmp_path / "packed")
    space = {"num_heads": {"type": "int", "low": 1, "high": 2}}
    for fold in (0, 1):
        holds_out_first = bool((dataset.participants[dataset.split(2, fold)[1]] == first).all())
        options = SearchOptions(name="a", data=str(tmp_path / "packed"), space={**space, "fold": fold})
        capsys.readouterr()
        new_study(options, StudyDir(tmp_path / "a"))
        told = " ".join(capsys.readouterr().out.split())
        words = "2 of 6 held-out sequences are of signs of which none is trained on: accuracies are at most 0.6667"
        assert (words in told) == holds_out_first
    new_study(SearchOptions(name="a", data=str(packed)), StudyDir(tmp_path / "a"))
    assert "none is trained on" not in capsys.readouterr().out


def test_few_sequences_have_a_smaller_default_space_and_more_epochs(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = SearchOptions(name="a", data=str(packed), results=str(tmp_path))
    request, _ = new_study(options, StudyDir(tmp_path / "a"))
    assert request.space == Space.parse(SMALL_SPACE, TrainConfig()).source
    assert request.epochs == 60
    assert "left out" not in capsys.readouterr().out  # the larger shape of the recipe: nobody asked for it
    assert SMALL_START in request.to_space().recipe_points()
    new_study(dataclasses.replace(options, max_params=300_000), StudyDir(tmp_path / "a"))
    assert "configurations of the recipe left out: 2 heads x 6 layers" in capsys.readouterr().out.replace("\n", " ")
    few, _ = new_study(dataclasses.replace(options, epochs=7), StudyDir(tmp_path / "a"))
    assert few.epochs == 7
    monkeypatch.setattr(prepare, "FEW_SEQUENCES", 96)  # the training part of 120 sequences in 5 folds
    request, _ = new_study(options, StudyDir(tmp_path / "a"))
    assert request.space == Space.parse(DEFAULT_SPACE, TrainConfig()).source
    assert request.epochs == 30
    assert request.to_space().recipe_points() == list(RECIPE)
