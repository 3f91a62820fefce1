"""Beginning with what earlier studies found."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import optuna
import pyarrow.parquet as pq
import pytest
from optuna.trial import TrialState

import search.run
from search.decide.samplers import SAMPLERS
from search.decide.study import SearchStudy
from search.decide.warm_start import earlier_trials
from search.problem.objective import Objective
from search.problem.space import Space
from search.record.own_files import ORIGIN
from search.record.request import Request
from search.record.trials import read_rows, write_parquet
from search.show.report_page import Report, render
from search.show.tables import show, title
from tests.search.conftest import TINY_SPACE
from tests.search.decide.test_study import _train
from tests.trainer.conftest import write_dataset
from trainer.common.errors import UserError
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.studydir import StudyDir

EPOCHS = 9


def asked_of(packed: Path, text: str = TINY_SPACE, epochs: int = EPOCHS, **changes: Any) -> Request:
    dataset = PackedDataset.open(packed)
    space = Space.parse(text, TrainConfig(epochs=epochs).replace(num_signs=dataset.num_signs))
    options: dict[str, Any] = {"trials": 12, "seed": 0, "sampler": "tpe", "pruner": "median", "recipe_points": False}
    return Request.of(space=space, dataset=dataset, **{**options, **changes})


def search_all(directory: Path, request: Request, trials: int | None = None, *, stop_after: int = 1000) -> SearchStudy:
    directory.mkdir(parents=True, exist_ok=True)
    request.write(StudyDir(directory))
    study = SearchStudy(StudyDir(directory), dataclasses.replace(request, trials=trials or request.trials))
    for _ in range(stop_after):
        if (assignment := study.ask()) is None:
            break
        _train(study, assignment)
    study.close()
    return study


def _warm(request: Request, *studies: Path, **changes: Any) -> Request:
    return dataclasses.replace(request, warm_start=[str(path) for path in studies], **changes)


@pytest.fixture
def old(tmp_path: Path, packed: Path) -> Path:
    search_all(tmp_path / "old", asked_of(packed))
    return tmp_path / "old"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_trials_come_first_and_count_for_nothing_but_learning(
    tmp_path: Path, packed: Path, old: Path, sampler: str
) -> None:
    request = _warm(asked_of(packed, sampler=sampler, seed=7), old)
    study = search_all(tmp_path / "new", request)
    assert study.is_finished
    trials = study.trials()
    assert len(trials) == 24
    assert [trial.user_attrs.get(ORIGIN) for trial in trials] == [f"old/{number}" for number in range(12)] + [None] * 12
    before = SearchStudy(StudyDir(old), dataclasses.replace(request, trials=12, warm_start=[])).trials()
    for was, now in zip(before, trials, strict=False):
        assert (now.state, now.params, now.values) == (was.state, was.params, was.values)
        assert now.intermediate_values == was.intermediate_values
    alone = search_all(tmp_path / "alone", asked_of(packed, sampler=sampler, seed=7)).trials()
    is_learning = sampler in ("tpe", "gp", "cmaes")
    if is_learning:
        assert trials[12].params["learning_rate"] != alone[0].params["learning_rate"]


def test_what_is_interrupted_goes_on_as_if_it_had_not_been(tmp_path: Path, packed: Path, old: Path) -> None:
    request = _warm(asked_of(packed, pruner="none"), old)
    undisturbed = [trial.params for trial in search_all(tmp_path / "a" / "new", request).trials()]
    for _ in range(5):
        study = search_all(tmp_path / "b" / "new", request, stop_after=3)
    assert study.is_finished
    assert [trial.params for trial in study.trials()] == undisturbed


def test_a_resumed_search_needs_the_earlier_study_no_more(tmp_path: Path, packed: Path, old: Path) -> None:
    request = _warm(asked_of(packed), old)
    search_all(tmp_path / "new", request, stop_after=3)
    old.rename(tmp_path / "gone")
    study = search_all(tmp_path / "new", request)
    assert len(study.trials()) == 24
    assert study.is_finished


def test_chains_of_studies_bring_each_trial_once(tmp_path: Path, packed: Path, old: Path) -> None:
    search_all(tmp_path / "middle", _warm(asked_of(packed, seed=1), old))
    found = earlier_trials([old, tmp_path / "middle"], asked_of(packed))
    origins = [trial.user_attrs[ORIGIN] for trial in found]
    assert origins == [f"old/{number}" for number in range(12)] + [f"middle/{number}" for number in range(12, 24)]


def test_trials_are_scored_by_the_new_objective_and_kept_under_its_limit(packed: Path, old: Path) -> None:
    asked = asked_of(packed, objective=Objective("accuracy,params"))
    found = earlier_trials([old], asked)
    assert {trial.state for trial in found} == {TrialState.COMPLETE}
    assert all(len(trial.values) == 2 for trial in found)
    assert {trial.values[1] for trial in found} == {trial.user_attrs["num_parameters"] for trial in found}
    small = dataclasses.replace(asked_of(packed), max_params=133_000)
    assert {trial.params["num_layers"] for trial in earlier_trials([old], small)} == {1}
    with pytest.raises(UserError, match="no trial to begin with that this search could have tried"):
        earlier_trials([old], dataclasses.replace(asked_of(packed), max_params=1))


def test_where_trials_come_from_is_shown(
    tmp_path: Path, packed: Path, old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    search_all(new, _warm(asked_of(packed), old), trials=12, stop_after=2)
    rows = read_rows(new)
    show(rows, title(str(new), rows))
    shown = " ".join(capsys.readouterr().out.split())
    assert f"{new}: 2 trials, and 12 of other studies" in shown
    assert "old/11" in shown
    write_parquet(rows, new)
    assert pq.read_table(new / "trials.parquet")["origin"].to_pylist() == [f"old/{n}" for n in range(12)] + [None] * 2
    page = render(Report.read(new))
    assert "It began with 12 trials of other studies" in page
    assert "old/11" in page
    assert "2 of 12" in page


def test_what_was_asked_for_in_an_earlier_study_does_not_keep_this_one_from_its_own(
    tmp_path: Path, packed: Path
) -> None:
    search_all(tmp_path / "made", asked_of(packed, trials=2, tries=[{"mixup_alpha": 0.25}]))
    asked = _warm(asked_of(packed, trials=2, tries=[{"mixup_alpha": 0.5}]), tmp_path / "made")
    study = search_all(tmp_path / "new", asked, stop_after=1)
    assert [trial.user_attrs.get("by_hand") for trial in study.trials()] == [None, None, 0]
    assert study.trials()[2].params["mixup_alpha"] == 0.5


def test_what_does_not_belong_together_is_refused(
    tmp_path: Path, packed: Path, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(words: str, request: Request, *studies: Path) -> None:
        with pytest.raises(UserError, match=words):
            earlier_trials(studies, request)

    refuse("holds no study", asked_of(packed), tmp_path)
    refuse("epochs is 9 there, 5 here", asked_of(packed, epochs=5), old)
    wider = TINY_SPACE.replace("high = 2", "high = 3")
    refuse("num_layers is 1 to 2 there, 1 to 3 here", asked_of(packed, wider), old)
    refuse("dropout is 0.1 there, 0.2 here", asked_of(packed, TINY_SPACE + "dropout = 0.2\n"), old)
    secret = tmp_path / "secret"
    secret.mkdir()
    asked_of(packed, storage="postgresql://me:***@host/db").write(StudyDir(secret))
    refuse("warm_start: .*secret: its database is postgresql://.*password is not kept", asked_of(packed), secret)
    refuse("another dataset", asked_of(write_dataset(tmp_path / "other", seed=1)), old)

    monkeypatch.chdir(tmp_path)
    space = tmp_path / "space.toml"
    space.write_text(wider)
    argv = ["search.run", "--trials", "1", "--name", "new", "--data", str(packed), "--space", str(space)]
    monkeypatch.setattr(sys, "argv", [*argv, "--epochs", "9", "--warm-start", str(old)])
    with pytest.raises(UserError, match=r"--warm-start: .*old: searches another space: num_layers"):
        search.run.main()
    assert not (tmp_path / "results" / "new").exists()


def test_every_field_in_which_an_earlier_study_differs_is_named(
    tmp_path: Path, packed: Path, base: TrainConfig
) -> None:
    asked = Request.of(
        space=Space.parse(TINY_SPACE, base),
        dataset=PackedDataset.open(packed),
        trials=1,
        seed=0,
        sampler="random",
        pruner="none",
        recipe_points=False,
    )
    asked.write(StudyDir(tmp_path / "old"))
    path = tmp_path / "old" / "study.json"
    content = json.loads(path.read_text())
    del content["base_config"]["model"]["motion"]  # as of versions that had no such field
    content["base_config"]["batch_size"] = content["space"]["batch_size"] = 128
    path.write_text(json.dumps(content))
    optuna.create_study(storage=f"sqlite:///{tmp_path / 'old' / 'study.db'}", direction="maximize")
    with pytest.raises(
        UserError,
        match="batch_size is 128 there, 32 here; motion is 0 there, 2 here; name it in the space file as it is there",
    ):
        earlier_trials([str(tmp_path / "old")], asked)
