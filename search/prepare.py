"""From what a search is asked for to a checked Request and its dataset, before anything starts or is written."""

import dataclasses
import math
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from search.decide.samplers import SAMPLERS, default_sampler
from search.decide.samplers import check as check_sampler
from search.decide.stopping import DEFAULT_PRUNER, STOPPING_RULES, StoppingRule
from search.decide.warm_start import earlier_trials
from search.options import DEFAULT_EPOCHS, DEFAULT_RESULTS, DEFAULT_TRIALS, MORE_EPOCHS, SearchOptions
from search.problem.latency_estimate import LatencyScale
from search.problem.objective import DEFAULT_OBJECTIVE, REMOVED, Objective
from search.problem.points import to_points
from search.problem.space import DEFAULT_SPACE, FEW_SEQUENCES, SMALL_SPACE, Space
from search.record.consistency import check_database
from search.record.database_url import same_place, to_keep
from search.record.own_files import is_own
from search.record.request import Request
from search.record.storage import has_study
from search.record.trials import BY_HAND, numbered, read_trials
from trainer.common.console import prose
from trainer.common.errors import StorageError, UserError
from trainer.common.files import to_path
from trainer.common.storage import base_name, is_uri, join
from trainer.common.strict import described
from trainer.config import TrainConfig
from trainer.data.batches import fitting_batch_size
from trainer.data.dataset import PackedDataset
from trainer.data.manifest import MANIFEST
from trainer.data.packing import pack
from trainer.model.classifier import too_large
from trainer.studydir import STUDY_DB, STUDY_JSON, StudyDir
from trainer.synthetic.generate import synthesize

FEWEST_STEPS: Final = 20
"""Optimizer steps before which accuracies tell little. Ranks after 5 of them correlate with those at the end by 0.75,
after 20 by 0.9 (the wide space of tests.bench.curves); by less where learning rates are alike."""
FEWEST_STEPS_AN_EPOCH: Final = 10
TOP_AGAIN: Final = 4
"""Configurations that a refused resume with other epochs proposes to train anew"""
FEWEST_SEEN: Final = 5000
"""Sequences that a training has seen before accuracies tell which model is better in the end, unless a quarter of it is
over. Of 193 sequences and 60 epochs, ranks after 5 epochs correlate with those at the end by 0.35, after 15 by 0.6,
after 30 by 0.9 (results/reference/small.md)."""


def _generated_dataset(results: str) -> Path:
    """Where a small generated dataset stands, packed; made when first asked for."""
    folder = Path(DEFAULT_RESULTS if is_uri(results) else results, "data", "generated")
    source, packed = folder / "asl-signs", folder / "packed"
    if not (packed / MANIFEST).exists():
        synthesize(source)
        pack(source, packed)
    return packed


def _space(options: SearchOptions, base: TrainConfig, default: str = DEFAULT_SPACE) -> Space:
    """What is to be searched: a TOML file, its content as a dict, a Space, or the default."""
    asked = options.space
    if asked is None:
        return Space.parse(default, base)
    if isinstance(asked, Space | dict):
        source = asked.source if isinstance(asked, Space) else asked
        space = Space.from_source(source, base, where="space")
    else:
        space = Space.read(to_path(asked, "space"), base)
    if options.epochs is not None and "epochs" in space.source:
        where = "the space" if isinstance(asked, Space | dict) else str(asked)
        raise UserError(f"{where} says something on epochs too; leave one of them out", field="epochs")
    return space


def _fewest_folds(dataset: PackedDataset, usual: int) -> int:
    """As many folds as usual, or as there are participants if these are fewer; at least 2."""
    return max(2, min(usual, len(np.unique(dataset.participants))))


def _require_folds(dataset: PackedDataset, base: TrainConfig) -> None:
    """Raise UserError if the participants cannot be dealt as the space says."""
    try:
        dataset.folds(base.num_folds)
    except UserError as error:
        if error.field != "num_folds":
            raise
        raise UserError(f"{error.message}, or leave num_folds out of the space", field="space") from error


def _tell_signs_never_learnt(dataset: PackedDataset, base: TrainConfig) -> None:
    """Say so where sequences are held out of signs that nobody else makes."""
    trained, held_out = dataset.split(base.num_folds, base.fold)
    labels = dataset.labels[held_out]
    if never := int((~np.isin(labels, dataset.labels[trained])).sum()):
        prose(
            f"{never:,} of {len(labels):,} held-out sequences are of signs of which none is trained on: accuracies are "
            f"at most {1 - never / len(labels):.4f}"
        )


def _objective(options: SearchOptions, dataset: PackedDataset, base: TrainConfig) -> Objective:
    """What trials are to be scored by. Raises UserError for what cannot be done with it."""
    objective = Objective(options.objective or DEFAULT_OBJECTIVE)
    if objective.has_front and options.pruner not in (None, "none"):
        raise UserError(
            f"{options.pruner}: with the objective {objective.name} no trial can be stopped early, as Optuna cannot "
            "compare two values before the end; leave it out",
            field="pruner",
        )
    if objective.name != "accuracy,latency":
        return objective
    _, indices = dataset.split(base.num_folds, base.fold)
    return dataclasses.replace(objective, latency=LatencyScale.measure(dataset.lengths[indices]))


def _limited(space: Space, max_params: int | None) -> Space:
    """The space without models that are too large. Raises UserError if none is left."""
    try:
        smallest = space.shaped(space.smallest()).model
        if reason := too_large(smallest):
            raise UserError(f"even its smallest model is too large: {reason}; make the space smaller", field="space")
        return space if max_params is None else space.limited(max_params)
    except ValueError as error:
        what = getattr(error, "message", error)
        raise UserError(f"{what}; raise the limit, or make the space smaller", field="max_params") from error


def new_study(options: SearchOptions, study: StudyDir) -> tuple[Request, PackedDataset]:
    """Check what a new study is asked for. Raises UserError at the first fault."""
    if options.storage and has_study(options.storage, study.path.name):
        raise UserError(f"it has a study named {study.path.name} already; choose another name", field="storage")
    dataset = PackedDataset.open(options.data or _generated_dataset(options.results))
    num_folds = _fewest_folds(dataset, TrainConfig.num_folds)
    are_few = len(dataset) * (num_folds - 1) < FEW_SEQUENCES * num_folds
    epochs = options.epochs or (MORE_EPOCHS if are_few else DEFAULT_EPOCHS)
    base = TrainConfig(epochs=epochs, seed=options.seed or 0)
    base = base.replace(num_signs=dataset.num_signs, num_folds=num_folds)
    space = _space(options, base, SMALL_SPACE if are_few else DEFAULT_SPACE)
    _require_folds(dataset, space.base)
    if space.base.num_folds < TrainConfig.num_folds and "num_folds" not in space.source:
        prose(f"{space.base.num_folds} participants: each is a fold of its own")
    _tell_signs_never_learnt(dataset, space.base)
    objective = _objective(options, dataset, space.base)
    space = _limited(space, options.max_params or space.max_params)
    sampler = options.sampler or default_sampler(space, objective)
    try:
        check_sampler(sampler, space, objective.has_front)
    except ValueError as error:
        raise UserError(f"{sampler}: {error}; choose another sampler", field="sampler") from error
    is_own = options.space is not None or options.max_params is not None
    if is_own and options.recipe_points and (left_out := space.recipe_points_left_out()):
        prose(f"configurations of the recipe left out: {left_out}")
    trials = options.trials or DEFAULT_TRIALS
    pruner = options.pruner or ("none" if objective.has_front else DEFAULT_PRUNER)
    request = Request.of(
        space=space,
        dataset=dataset,
        objective=objective,
        trials=trials,
        seed=options.seed or 0,
        sampler=sampler,
        pruner=pruner,
        earliest_stop=_earliest_stop(dataset, space, STOPPING_RULES[pruner](space.base.epochs, trials)),
        recipe_points=options.recipe_points,
        name=study.path.name,
        storage=options.storage and to_keep(options.storage),
        tries=to_points(space, options.try_),
        warm_start=[where if is_uri(where) else str(Path(where).absolute()) for where in options.warm_start],
    )
    _require_room(request, 0)
    if request.warm_start:
        count = len(earlier_trials(options.warm_start, request))
        prose(f"begins with {count} trials of {' '.join(options.warm_start)}")
    return request, dataset


def _earliest_stop(dataset: PackedDataset, space: Space, rule: StoppingRule) -> int:
    """The epoch after which a trial of the fewest steps an epoch has done FEWEST_STEPS; says so where that matters."""
    sequences = len(dataset.split(space.base.num_folds, space.base.fold)[0])
    batch_size = max(its or fitting_batch_size(sequences) for its in space.values("batch_size"))
    passes = math.ceil(sequences / batch_size)
    steps = min(int(its or passes) for its in space.values("steps_per_epoch"))
    by_steps = math.ceil(FEWEST_STEPS / steps)
    by_sequences = min(math.ceil(FEWEST_SEEN / (steps * batch_size)), space.base.epochs // 4)
    epoch = max(by_steps, by_sequences)
    if steps < FEWEST_STEPS_AN_EPOCH:
        remedy = "more epochs give more"
        if None not in space.values("batch_size"):
            remedy = "a smaller batch_size, or more epochs, gives more"
        prose(
            f"an epoch has {steps} optimizer step{'s' * (steps > 1)} ({sequences:,} sequences, "
            f"batch_size {batch_size}): trials learn little in one; {remedy}",
            style="yellow",
        )
    if rule.wait_until(epoch):
        when = "early" if epoch >= space.base.epochs else f"before epoch {epoch}"
        told = f"no trial is stopped {when}: {FEWEST_STEPS} steps, which training needs to tell, take {epoch} epochs"
        if by_sequences > by_steps:
            told = f"no trial is stopped {when}: of {sequences:,} sequences, less training does not tell"
        prose(told)
    return epoch


def resumed_study(options: SearchOptions, study: StudyDir) -> tuple[Request, PackedDataset]:
    """Read what a study was asked for; only the number of trials and the dataset's place may change."""
    directory, request = study.path, Request.read(study)
    if request.objective == REMOVED:
        raise UserError(
            f"{directory}: was searched for the members of an ensemble, which version 0.2.0 removed, as it was "
            "measured not to help; its trials can still be shown, refitted and selected from"
        )
    for name, known in (("sampler", SAMPLERS), ("pruner", STOPPING_RULES)):
        if getattr(request, name) not in known:
            found = getattr(request, name)
            raise UserError(f"{directory / STUDY_JSON}: {name}: {described(found)} is not one of {', '.join(known)}")
    for name in _differing(options, request):
        remedy = "leave it out to resume the study"
        if name == "epochs" and not request.to_config().all_participants:
            remedy = _longer(study, options, request)
        raise UserError(f"was settled when {directory} was made; {remedy}", field=name)
    if not options.recipe_points and request.recipe_points:
        message = f"was settled when {directory} was made; leave it out to resume the study"
        raise UserError(message, field="recipe_points")
    kept = request.storage and same_place(request.storage)  # older studies kept relative paths
    if options.storage is not None and same_place(options.storage) != kept:
        raise UserError(f"was settled when {directory} was made: {request.storage or STUDY_DB}", field="storage")
    asked = dataclasses.replace(request, trials=max(options.trials or 0, request.trials))
    late = check_database(study, asked, options.storage, is_copy=is_uri(options.results))
    dataset = dataset_of(options.data, request)
    if dataset.fingerprint != request.data_fingerprint:
        raise UserError(f"{dataset.source}: is not the dataset of {directory}; give the right one", field="data")
    if options.trials is not None and options.trials < request.trials:
        message = f"{directory} was asked for {request.trials} trials; that many or more can be done"
        raise UserError(message, field="trials")
    if late:
        its = "its" if len(late) == 1 else "their"
        end = f"{numbered(late)} ended before the database was told so: taken from {its} own files"
        prose(end)
    request = dataclasses.replace(asked, data=dataset.source)
    if options.try_:
        more = to_points(request.to_space(), options.try_)
        request = dataclasses.replace(request, tries=[*request.tries, *more])
        has_database = request.storage is not None or (directory / STUDY_DB).is_file()
        begun = read_trials(directory, options.storage) if has_database else []
        _require_room(request, sum(is_own(trial) and BY_HAND not in trial.user_attrs for trial in begun))
    return request, dataset


def _longer(study: StudyDir, options: SearchOptions, request: Request) -> str:
    """How to train a study's best configurations for other epochs, as a training's schedule is over all of its own."""
    where, best = join(options.results, options.name or study.name), _num_finished(study)
    falls = f"the learning rate of its trials falls over {request.epochs} epochs, so none can go on"
    if not best:
        return f"{falls}; begin a new study of {options.epochs} epochs"
    name = f"{base_name(where)}-{options.epochs}-epochs"
    asked = f"--top {best} --seeds 1 --epochs {options.epochs} --name {shlex.quote(name)}"
    return f"{falls}; train its best configurations anew: python -m search.refit {shlex.quote(where)} {asked}"


def _num_finished(study: StudyDir) -> int:
    """How many different configurations are finished, of which TOP_AGAIN are enough."""
    found: set[str] = set()
    for run in study.trials():
        if run.is_done and len(found) < TOP_AGAIN:
            config = run.read_config().replace(seed=0, fold=0)
            found.add(str(sorted(config.to_flat().items(), key=str)))
    return len(found)


def _require_room(request: Request, others: int) -> None:
    """Raise UserError if the trials that the user asked for are too many beside those that there are."""
    if request.tries and (needed := others + len(request.tries)) > request.trials:
        raise UserError(
            f"the study has {request.trials} trials, which leave no room beside {others} others; ask for at least "
            f"{needed} (trials)",
            field="try_",
        )


def dataset_of(given: str | None, request: Request) -> PackedDataset:
    """The dataset of a study: the one given, or where it lay. Raises UserError if there is none."""
    if given is not None:
        return PackedDataset.open(given)
    try:
        return PackedDataset.open(request.data)
    except StorageError:
        raise
    except UserError as error:
        message = f"{error}; it lay there when the study was made: if it was moved, say where it is now"
        raise UserError(message, field="data") from error


def _differing(options: SearchOptions, request: Request) -> Iterator[str]:
    """Names of the options that a study was made with and that are now given other values."""
    for name in ("epochs", "seed", "sampler", "pruner", "max_params", "objective"):
        if getattr(options, name) not in (None, getattr(request, name)):
            yield name
    if options.space is not None:
        base = request.to_config()
        if _space(dataclasses.replace(options, epochs=None), base).source != request.space:
            yield "space"
    begun = [where if is_uri(where) else str(Path(where).absolute()) for where in options.warm_start]
    if begun and begun != request.warm_start:
        yield "warm_start"
