"""What a search is asked for: checked, before anything starts or is written."""

import argparse
import dataclasses
from pathlib import Path
from typing import Final

from search.decide.samplers import DEFAULT_PRUNER, default_sampler
from search.decide.samplers import check as check_sampler
from search.decide.warm_start import earlier_trials
from search.options import DEFAULT_EPOCHS, DEFAULT_RESULTS
from search.problem.objective import DEFAULT_OBJECTIVE, REMOVED, LatencyScale, Objective
from search.problem.space import DEFAULT_SPACE, Space
from search.record.remote_copy import TRIALS
from search.record.request import STUDY_DB, Settings, find_study
from search.record.storage import has_study, shown, to_keep
from trainer.common.console import console
from trainer.common.errors import UserError
from trainer.common.storage import is_uri, open_dataset
from trainer.config import TrainConfig
from trainer.data.dataset import MANIFEST, PackedDataset
from trainer.pack import pack
from trainer.synthesize import synthesize

SEEDS: Final = 2**32  # that NumPy's generators take


def _generated_dataset(results: str) -> Path:
    """Where a small generated dataset stands, packed; made when first asked for."""
    folder = Path(DEFAULT_RESULTS if is_uri(results) else results, "data", "generated")
    source, packed = folder / "asl-signs", folder / "packed"
    if not (packed / MANIFEST).exists():
        synthesize(source)
        pack(source, packed)
    return packed


def _objective(options: argparse.Namespace, dataset: PackedDataset, base: TrainConfig) -> Objective:
    """What trials are to be scored by. Raises UserError for what cannot be done with it."""
    objective = Objective(options.objective or DEFAULT_OBJECTIVE)
    if objective.has_front and options.pruner not in (None, "none"):
        raise UserError(
            f"--pruner {options.pruner}: with --objective {objective.name} no trial can be stopped early, "
            "as Optuna cannot compare two values before the end; leave it out"
        )
    if objective.name != "accuracy,latency":
        return objective
    _, indices = dataset.split(base.num_folds, base.fold)
    return dataclasses.replace(objective, latency=LatencyScale.measure(dataset.lengths[indices]))


def _limited(space: Space, max_params: int | None) -> Space:
    """The space without models that are too large. Raises UserError if none is left."""
    if max_params is not None:
        try:
            space = space.limited(max_params)
        except ValueError as error:
            raise UserError(f"--max-params: {error}; raise the limit, or make the space smaller") from error
    return space


def make_study(options: argparse.Namespace, directory: Path) -> tuple[Settings, PackedDataset]:
    """Check what a new study is asked for. Raises UserError at the first fault."""
    if options.trials is None:
        raise UserError("--trials: say how many, such as --trials 64")
    if options.seed is not None and not 0 <= options.seed < SEEDS:
        raise UserError(f"--seed: must be at least 0 and less than 2**32, not {options.seed}")
    dataset = open_dataset(options.data or _generated_dataset(options.results))
    base = TrainConfig(epochs=options.epochs or DEFAULT_EPOCHS, seed=options.seed or 0)
    base = base.replace(num_signs=dataset.num_signs)
    space = Space.read(options.space, base) if options.space else Space.parse(DEFAULT_SPACE, base)
    if options.epochs and "epochs" in space.source:
        raise UserError(f"--epochs: {options.space} says something on epochs too; leave one of them out")
    objective = _objective(options, dataset, base)
    space = _limited(space, options.max_params)
    sampler = options.sampler or default_sampler(space, objective)
    try:
        check_sampler(sampler, space, objective.has_front)
    except ValueError as error:
        raise UserError(f"--sampler {sampler}: {error}; choose another sampler") from error
    if not options.no_seed_points and (left_out := space.seed_points_left_out()):
        console.print(f"seed points left out: {left_out}", soft_wrap=True, markup=False)
    settings = Settings.make(
        space=space,
        dataset=dataset,
        trials=options.trials,
        seed=options.seed or 0,
        sampler=sampler,
        pruner=options.pruner or ("none" if objective.has_front else DEFAULT_PRUNER),
        seed_points=not options.no_seed_points,
        objective=objective,
        name=directory.name,
        storage=options.storage and to_keep(options.storage),
    )
    if options.warm_start:
        studies = [where if is_uri(where) else str(Path(where).absolute()) for where in options.warm_start]
        settings = dataclasses.replace(settings, warm_start=studies)
        count = len(earlier_trials(options.warm_start, settings))
        console.print(f"begins with {count} trials of {' '.join(options.warm_start)}", soft_wrap=True, markup=False)
    if options.storage and has_study(options.storage, directory.name):
        raise UserError(f"--storage: it has a study named {directory.name} already; choose another --name")
    return settings, dataset


def resume_study(options: argparse.Namespace, directory: Path) -> tuple[Settings, PackedDataset]:
    """Read what a study was asked for; only the number of trials and the dataset's place may change."""
    settings = Settings.read(directory)
    if settings.objective == REMOVED:
        raise UserError(
            f"{directory}: was searched for the members of an ensemble, which version 0.2.0 removed, as it was "
            "measured not to help; its trials can still be shown, refitted and selected from"
        )
    for name in ("epochs", "seed", "space", "sampler", "pruner", "max_params", "objective", "warm_start"):
        if getattr(options, name) is not None:
            raise UserError(
                f"--{name.replace('_', '-')}: was settled when {directory} was made; leave it out with --resume"
            )
    if options.no_seed_points and settings.seed_points:
        raise UserError(f"--no-seed-points: was settled when {directory} was made; leave it out with --resume")
    kept = settings.storage and to_keep(settings.storage)  # older studies kept relative paths
    if options.storage is not None and to_keep(options.storage) != kept:
        raise UserError(f"--storage: was settled when {directory} was made: {settings.storage or STUDY_DB}")
    if not is_uri(options.results):  # there a study is put together again from its trials
        _require_trials(directory, settings, options.storage)
    dataset = open_dataset(options.data or settings.data)
    if dataset.fingerprint != settings.data_fingerprint:
        raise UserError(f"{dataset.source}: is not the dataset of {directory}; give the right one with --data")
    if options.trials is not None and options.trials < settings.trials:
        raise UserError(f"--trials: {directory} was asked for {settings.trials} trials; that many or more can be done")
    return dataclasses.replace(settings, trials=options.trials or settings.trials, data=dataset.source), dataset


def _require_trials(directory: Path, settings: Settings, storage: str | None) -> None:
    """Raise UserError if trials of a study in a folder were begun, but its database, lost or another, has no study."""
    if not any((directory / TRIALS).glob("*/")):
        return
    url, name = find_study(directory, storage)
    file = directory / STUDY_DB
    if not (file.exists() if settings.storage is None else has_study(url, name or directory.name)):
        raise UserError(
            f"{shown(url)}: holds no study, but {directory / TRIALS} has its trials; bring the database back, or begin "
            "with another --name"
        )
