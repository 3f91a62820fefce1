"""Configurations trained with every fold held out in turn: what each predicts, and that what ships is one of them."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from ensemble.candidates.folds import Rotated, by_fold
from ensemble.candidates.full_data import FullData
from ensemble.candidates.measure import measure
from ensemble.candidates.opening import open_pool, open_pools
from ensemble.candidates.priced import PricedPool
from ensemble.tflite.latency import Target
from tests.ensemble.conftest import NUM_FOLDS, change_fields, finish, random_classifier, taught
from trainer.common.errors import UserError
from trainer.config import ModelConfig, TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.metrics import accuracy, log_loss
from trainer.studydir import StudyDir
from trainer.validation import Validation

SEEDS = 2
LAYERS = (1, 2)  # of the two configurations
POINTS = [(layers, seed, fold) for layers in LAYERS for seed in range(SEEDS) for fold in range(NUM_FOLDS)]


def _train(study: StudyDir, number: int, config: TrainConfig, dataset: PackedDataset) -> None:
    """Leave what a training leaves; the head knows the held-out sequences, with some noise."""
    rows = dataset.split(NUM_FOLDS, config.fold)[1]
    rng = np.random.default_rng(number)
    logits = rng.normal(size=(len(rows), dataset.num_signs))
    logits[np.arange(len(rows)), dataset.labels[rows]] += 1.5
    model = taught(random_classifier(config.model, seed=number), dataset, rows, logits)
    finish(study.trial(number), config, model, dataset)


def _config(dataset: PackedDataset, layers: int, seed: int, fold: int, all_participants: bool = False) -> TrainConfig:
    model = ModelConfig(num_heads=1, num_layers=layers, num_signs=dataset.num_signs)
    return TrainConfig(model=model, seed=seed, fold=fold, num_folds=NUM_FOLDS, all_participants=all_participants)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, packed: PackedDataset) -> Path:
    """A study of two configurations, trained with two seeds and every fold held out."""
    study = StudyDir(tmp_path_factory.mktemp("folds") / "asl-folds")
    for number, point in enumerate(POINTS):
        _train(study, number, _config(packed, *point), packed)
    study.write_request(
        {
            "label_names": packed.sign_names,
            "data": str(packed.path),
            "data_fingerprint": packed.fingerprint,
            "created": "2026-01-01T00:00:00",
            "base_config": TrainConfig(num_folds=NUM_FOLDS).to_json(),
        }
    )
    study.write_validation(Validation.of(packed, NUM_FOLDS), packed.sign_names)
    measure(open_pool(study.path), ["float32", "int8"], Target())  # what copies find
    return study.path


@pytest.fixture
def folded(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "asl-folds")


def _measured(study: Path) -> PricedPool:
    return measure(open_pool(study), ["float32"], Target())


def test_a_candidate_has_the_predictions_of_each_fold_for_its_own_people(folded: Path, packed: PackedDataset) -> None:
    priced = _measured(folded)
    assert [candidate.name for candidate in priced.pool.candidates] == ["0000", "0002", "0004", "0006"]
    expected = np.zeros((SEEDS, len(packed), packed.num_signs), np.float16)
    for number, (layers, seed, fold) in enumerate(POINTS):
        if layers == LAYERS[1]:
            rows = packed.split(NUM_FOLDS, fold)[1]
            expected[seed, rows] = StudyDir(folded).trial(number).read_val_probs()
    first, second = priced.pool.candidates[2:]
    np.testing.assert_array_equal(first.val_probs(), expected.reshape(-1, packed.num_signs))
    np.testing.assert_array_equal(second.val_probs(), expected[::-1].reshape(-1, packed.num_signs))
    labels = np.tile(packed.labels, SEEDS)
    np.testing.assert_array_equal(priced.pool.validation.labels, labels)
    np.testing.assert_array_equal(priced.pool.validation.participants, np.tile(packed.participants, SEEDS))
    right = first.val_probs().argmax(axis=1) == labels
    assert first.val_accuracy == second.val_accuracy == np.mean(right)


def test_costs_and_the_file_that_ships_are_those_of_the_first_fold(folded: Path) -> None:
    priced = _measured(folded)
    pool = open_pool(folded)
    first = by_fold(pool)[0]
    alone = measure(first, ["float32"], Target())
    np.testing.assert_array_equal(priced.costs, alone.costs)
    assert priced.base == alone.base
    assert (priced.costs_of("latency") > 0).all()
    assert [candidate.itself.name for candidate in priced.pool.candidates] == ["0000", "0002", "0004", "0006"]
    np.testing.assert_array_equal(priced.pool.itself.validation.sequence_ids, first.validation.sequence_ids)
    for candidate in priced.pool.candidates:
        assert isinstance(candidate, Rotated)
        assert candidate.itself.run == candidate.run
        assert len(candidate.itself.val_probs()) == len(first.validation.labels)


def test_each_precision_is_judged_by_its_own_files_of_all_folds(folded: Path) -> None:
    priced = measure(open_pool(folded), ["float32", "int8"], Target())
    pairs: dict[str, dict[str, np.ndarray]] = {}
    for candidate in priced.pool.candidates:
        pairs.setdefault(candidate.name, {})[candidate.precision] = candidate.val_probs().astype(np.float64)
    assert set(pairs) == {"0000", "0002", "0004", "0006"}
    for pair in pairs.values():
        off = np.abs(pair["int8"] - pair["float32"]).max(axis=1)
        assert 0 < off.max() < 0.1
        assert (off > 0).mean() > 0.9  # of every fold and seed, not only the first


def test_a_configuration_that_lacks_a_training_is_left_out_with_the_reason(folded: Path) -> None:
    StudyDir(folded).trial(POINTS.index((2, 1, 1))).path.joinpath("done.json").unlink()
    priced = _measured(folded)
    assert [candidate.name for candidate in priced.pool.candidates] == ["0000", "0002"]
    reasons = priced.pool.left_out
    assert "not finished" in reasons.pop("0007")
    assert reasons == dict.fromkeys(
        ["0004", "0005", "0006"],
        "its configuration has no float32 file of a training with seed 1 and fold 1 held out",
    )
    for number in range(len(POINTS)):
        if number % NUM_FOLDS:
            StudyDir(folded).trial(number).path.joinpath("done.json").unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"no trial can be used .*not finished"):
        _measured(folded)


def test_predictions_of_another_fold_are_left_out(folded: Path) -> None:
    study = StudyDir(folded)
    shutil.copy(study.trial(0).path / "val_probs.npy", study.trial(1).path)
    left_out = _measured(folded).pool.left_out
    assert "val_probs.npy" in left_out["0001"]
    assert "of a training with seed 0 and fold 1 held out" in left_out["0000"]


def test_studies_of_other_folds_are_not_one_pool(folded: Path, packed: PackedDataset, tmp_path: Path) -> None:
    other = shutil.copytree(folded, tmp_path / "other")
    change_fields(other / "study.json", base_config=TrainConfig(num_folds=3).to_json())
    StudyDir(other).write_validation(Validation.of(packed, 3), packed.sign_names)
    for run in StudyDir(other).trials():
        config = run.read_config().replace(num_folds=3)
        rows = packed.split(3, config.fold)[1]
        (run.path / "config.json").unlink()
        run.write_config(config)
        probs = np.full((len(rows), packed.num_signs), 1 / packed.num_signs)
        run.write_val_probs(probs)
        labels = packed.labels[rows]
        change_fields(
            run.path / "done.json",
            val_accuracy=accuracy(run.read_val_probs(), labels),
            val_log_loss=log_loss(run.read_val_probs(), labels),
            sha256=run.hashes(),
        )
    with pytest.raises(UserError, match=r"deals participants into other folds than .*; only models"):
        open_pools([("a", folded), ("b", other)])
    twice = open_pools([("a", folded), ("b", shutil.copytree(folded, tmp_path / "b"))])
    assert len(twice.candidates) == len(POINTS)  # the copy's are the same trials


def test_weights_trained_on_everyone_stand_for_a_configuration_and_its_seed(
    folded: Path, packed: PackedDataset, tmp_path: Path
) -> None:
    whole = StudyDir(tmp_path / "asl-folds-ship")
    _train(whole, 0, _config(packed, 2, 1, 0, all_participants=True), packed)
    full, pool = FullData(whole.path), _measured(folded).pool
    assert full.of(pool.candidates[3]).run.path == whole.trial(0).path
    assert list(full.unshippable(pool.candidates)) == ["0000", "0002", "0004"]
    assert [candidate.name for candidate in open_pool(folded).that_ship] == ["0000", "0002", "0004", "0006"]
