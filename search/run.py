"""Search for good configurations: Optuna decides, Ray Tune executes, everything lands in results/STUDY.

    python -m search.run --trials 64 --data PACKED            # this machine
    python -m search.run --trials 64 --data PACKED --address auto --gpus-per-trial 0.25
    python -m search.run --trials 64 --data s3://... --results s3://... --address auto    # nodes that share no folder
    python -m search.run --resume --name STUDY                # goes on after any interruption

With no --data, a small generated dataset is made and searched on.
"""

import argparse
import contextlib
import dataclasses
import math
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ray import tune
from rich.console import Console

from search import cluster, lease
from search.dispatch import Brake, Dispatcher, StudyScheduler, StudySearcher
from search.logs import LOGS, check_installed
from search.members import EXAMPLE, MemberBudget
from search.memory import memory_kills_end_one_trial
from search.mirror import StudyMirror
from search.objective import DEFAULT_OBJECTIVE, ENSEMBLE, LatencyScale, Objective
from search.options import DEFAULT_EPOCHS, DEFAULT_RESULTS, parse
from search.progress import STATE_STYLES, Progress
from search.samplers import DEFAULT_PRUNER, default_sampler
from search.samplers import check as check_sampler
from search.settings import STUDY_DB, STUDY_JSON, VALIDATION, Settings, find_study, write_validation
from search.space import DEFAULT_SPACE, Space
from search.storage import has_study, without_password
from search.study import Assignment, SearchStudy
from search.table import TRIALS_PARQUET, read_rows, show, title, to_rows, write_parquet
from search.trial import Order, run_trial
from search.warm import earlier_trials
from trainer import cli
from trainer.cli import LOCK
from trainer.config import TrainConfig
from trainer.dataset import MANIFEST, PackedDataset
from trainer.pack import pack
from trainer.remote import Remote, is_uri, join, open_dataset, parent
from trainer.synthesize import synthesize

INTERRUPTED: Final = 130  # exit status


@contextlib.contextmanager
def _interruptible(brake: Brake, progress: Progress) -> Iterator[None]:
    """The first SIGINT pulls the brake; a second one ends the process at once."""
    before = signal.getsignal(signal.SIGINT)

    def pull(*_: object) -> None:
        brake.pulled = True
        signal.signal(signal.SIGINT, before)
        progress.note("stopping; press Ctrl-C again to stop at once")

    signal.signal(signal.SIGINT, pull)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def search(
    study: SearchStudy,
    dataset: PackedDataset,
    resources: cluster.Resources,
    workers: int | None,
    progress: Progress,
    callbacks: Sequence[tune.Callback] = (),
    time_budget: float | None = None,
) -> bool:
    """Run the trials that the study hands out until all have ended. False if stopped before that.

    They are stopped by SIGINT, or after ``time_budget`` seconds.

    Ray must be connected. Whatever happens, trials that ended are in the study and the others can go on.
    Raises UserError if something keeps all of them from going on, such as a full disk.
    """

    def to_ray(assignment: Assignment) -> dict[str, Any]:
        order = Order(
            number=assignment.number,
            config=assignment.config.to_json(),
            run=study.run_place(assignment.number),
            data=dataset.source,
            last_epoch=assignment.last_epoch,
            threads=resources.cpus,
            device="cuda" if resources.gpus > 0 else "cpu",
        )
        return vars(order)

    capacity = cluster.capacity(resources, workers)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(capacity())  # so that all workers start at once
    brake = Brake(time_budget)
    dispatcher = Dispatcher(study, progress, capacity, to_ray, brake)
    with (
        tempfile.TemporaryDirectory(prefix="ray-tune-") as scratch,
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),  # Ray prints there from a thread of its own; progress has its own console
        _interruptible(brake, progress),
        memory_kills_end_one_trial(),
    ):
        tune.run(
            run_trial,
            name="trials",
            search_alg=StudySearcher(dispatcher),
            scheduler=StudyScheduler(dispatcher),
            stop=brake,
            num_samples=-1,  # the searcher says when it is enough
            resources_per_trial=resources.to_ray(),
            reuse_actors=True,
            storage_path=scratch,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
            callbacks=list(callbacks),
            raise_on_failed_trial=False,
            verbose=0,
        )
    if brake.is_time_up:
        progress.note("the time budget is used up")
    if brake.fault:
        raise brake.fault
    return study.is_finished


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
    if objective.name == ENSEMBLE:
        return _ensemble_objective(options)
    if options.budget is not None:
        raise cli.UserError(f"--budget: limits what --objective {ENSEMBLE} looks for; leave it out, or ask for that")
    if objective.has_front and options.pruner not in (None, "none"):
        raise cli.UserError(
            f"--pruner {options.pruner}: with --objective {objective.name} no trial can be stopped early, "
            "as Optuna cannot compare two values before the end; leave it out"
        )
    if objective.name != "accuracy,latency":
        return objective
    _, indices = dataset.split(base.num_folds, base.fold)
    return dataclasses.replace(objective, latency=LatencyScale.measure(dataset.lengths[indices]))


def _ensemble_objective(options: argparse.Namespace) -> Objective:
    if options.budget is None:
        raise cli.UserError(
            f"--objective {ENSEMBLE}: say with --budget what the ensemble may take, for example {EXAMPLE}"
        )
    if options.warm_start:
        raise cli.UserError(
            f"--warm-start: with --objective {ENSEMBLE} trials are scored by predictions, which a study has of its "
            "own trials only; leave one of them out"
        )
    try:
        MemberBudget.parse(options.budget)
    except ValueError as error:
        raise cli.UserError(f"--budget: {error}") from error
    return Objective(ENSEMBLE, budget=options.budget)


def _limited(space: Space, objective: Objective, max_params: int | None) -> Space:
    """The space without models that are too large. Raises UserError if none is left."""
    if max_params is not None:
        try:
            space = space.limited(max_params)
        except ValueError as error:
            raise cli.UserError(f"--max-params: {error}; raise the limit, or make the space smaller") from error
    if objective.members is None or objective.members.largest >= (max_params or math.inf):
        return space
    try:
        return space.limited(int(objective.members.largest))
    except ValueError as error:
        raise cli.UserError(f"--budget: {error}; raise the limit, or make the space smaller") from error


def _make_study(options: argparse.Namespace, directory: Path) -> tuple[Settings, PackedDataset]:
    """Check what a new study is asked for, and write it down. Raises UserError at the first fault."""
    if options.trials is None:
        raise cli.UserError("--trials: say how many, such as --trials 64")
    if options.seed is not None and options.seed < 0:
        raise cli.UserError(f"--seed: must be at least 0, not {options.seed}")
    dataset = open_dataset(options.data or _generated_dataset(options.results))
    base = TrainConfig(epochs=options.epochs or DEFAULT_EPOCHS, seed=options.seed or 0)
    base = base.replace(num_signs=dataset.num_signs)
    space = Space.read(options.space, base) if options.space else Space.parse(DEFAULT_SPACE, base)
    if options.epochs and "epochs" in space.source:
        raise cli.UserError(f"--epochs: {options.space} says something on epochs too; leave one of them out")
    objective = _objective(options, dataset, base)
    space = _limited(space, objective, options.max_params)
    sampler = options.sampler or default_sampler(space, objective)
    try:
        check_sampler(sampler, space, objective.has_front)
    except ValueError as error:
        raise cli.UserError(f"--sampler {sampler}: {error}; choose another sampler") from error
    if not options.no_seed_points and (left_out := space.seed_points_left_out()):
        cli.console.print(f"seed points left out: {left_out}", soft_wrap=True, markup=False)
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
        storage=options.storage and without_password(options.storage),
    )
    if options.warm_start:
        studies = [where if is_uri(where) else str(Path(where).absolute()) for where in options.warm_start]
        settings = dataclasses.replace(settings, warm_start=studies)
        count = len(earlier_trials(options.warm_start, settings))
        cli.console.print(f"begins with {count} trials of {' '.join(options.warm_start)}", soft_wrap=True)
    if options.storage and has_study(options.storage, directory.name):
        raise cli.UserError(f"--storage: it has a study named {directory.name} already; choose another --name")
    write_validation(dataset, space.base, directory)
    settings.write(directory)
    return settings, dataset


def _resume_study(options: argparse.Namespace, directory: Path) -> tuple[Settings, PackedDataset]:
    """Read what a study was asked for; only the number of trials and the dataset's place may change."""
    settings = Settings.read(directory)
    for name in ("epochs", "seed", "space", "sampler", "pruner", "max_params", "objective", "budget", "warm_start"):
        if getattr(options, name) is not None:
            raise cli.UserError(
                f"--{name.replace('_', '-')}: was settled when {directory} was made; leave it out with --resume"
            )
    if options.storage is not None and without_password(options.storage) != settings.storage:
        raise cli.UserError(f"--storage: was settled when {directory} was made: {settings.storage or STUDY_DB}")
    dataset = open_dataset(options.data or settings.data)
    if dataset.fingerprint != settings.data_fingerprint:
        raise cli.UserError(f"{dataset.source}: is not the dataset of {directory}; give the right one with --data")
    if options.trials is not None and options.trials < settings.trials:
        raise cli.UserError(
            f"--trials: {directory} was asked for {settings.trials} trials; that many or more can be done"
        )
    settings = dataclasses.replace(settings, trials=options.trials or settings.trials, data=dataset.source)
    settings.write(directory)
    return settings, dataset


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep the study to this process. Raises UserError if another one has it."""
    with cli.locked(directory, "another search is at work on this study; let it end, or stop it"):
        try:
            yield
        finally:
            if not (directory / STUDY_JSON).exists():  # refused before it began: leave nothing behind
                (directory / LOCK).unlink()
                with contextlib.suppress(OSError):
                    directory.rmdir()


def _run(
    directory: Path,
    settings: Settings,
    dataset: PackedDataset,
    options: argparse.Namespace,
    mirror: StudyMirror | None,
) -> bool:
    """Search until the study is complete, and write trials.parquet; False if interrupted before."""
    resources = cluster.Resources(options.cpus_per_trial, options.gpus_per_trial)
    with cluster.connect(options.address, resources, options.workers):
        cluster.check_nodes(directory, dataset, None if mirror is None else mirror.remote.uri)
        study = SearchStudy(
            directory,
            settings.to_space(),
            num_trials=settings.trials,
            seed=settings.seed,
            sampler=settings.sampler,
            pruner=settings.pruner,
            seed_points=settings.seed_points,
            points=settings.points,
            earlier=lambda: earlier_trials(settings.warm_start, settings),
            objective=settings.to_objective(),
            storage=find_study(directory, options.storage)[0],
            name=settings.name,
            mirror=mirror,
        )
        try:
            console = Console(file=sys.stdout, highlight=False)
            with Progress(console, directory.name, settings.trials, study.foresee) as progress:
                for row in to_rows(study.trials()):
                    if row.state in STATE_STYLES and row.origin is None:
                        progress.earlier(row.number, row.state, row.val_accuracy, row.params, row.epochs)
                    elif row.number in study.waiting:
                        progress.waited(row.number, row.epochs)
                callbacks = [] if options.log is None else [LOGS[options.log](directory)]
                return search(study, dataset, resources, options.workers, progress, callbacks, options.time_budget)
        finally:
            study.close()


def check_name(name: str) -> None:
    """Raise UserError if a study cannot be called so."""
    if name in ("", "..") or name != Path(name).name:
        raise cli.UserError(f"--name: must be the name of one folder under --results, not {name!r}")


def main() -> None:
    options = parse()
    if options.resume and options.name is None:
        raise cli.UserError("--resume: say which study with --name")
    if options.name is not None:
        check_name(options.name)
    shown = join(options.results, options.name or datetime.now().strftime("%Y-%m-%d-%H%M%S"))
    if options.resume and not is_study(shown):
        raise cli.UserError(f"{shown}: there is no study here to go on with")
    if not options.resume and is_study(shown):
        raise cli.UserError(f"{shown}: there is a study of this name; choose another --name, or go on with --resume")
    carry_out(shown, _resume_study if options.resume else _make_study, options)


def is_study(where: str) -> bool:
    """Whether there is a study in a folder or behind a URI."""
    return Remote.open(where).has(STUDY_JSON) if is_uri(where) else Path(where, STUDY_JSON).exists()


def carry_out(
    shown: str,
    prepare: Callable[[argparse.Namespace, Path], tuple[Settings, PackedDataset]],
    options: argparse.Namespace,
) -> None:
    """Run the study that ``prepare`` leaves in the folder ``shown``, then print its trials and what to do next.

    Exits with status INTERRUPTED if it was. Raises UserError if the folder cannot be used.
    """
    if options.log is not None:
        check_installed(options.log)
    if options.address is not None:
        cluster.find_cluster(options.address)  # before there is a study
    mirror = StudyMirror(Remote.open(shown)) if is_uri(shown) else None
    directory = Path(shown).absolute() if mirror is None else mirror.directory
    cluster.check_writable(directory)
    with _locked(directory), contextlib.ExitStack() as stack:
        if mirror is not None:
            mirror.remote.check_writable(directory)
            stack.enter_context(lease.held(mirror.remote, directory))
            mirror.fetch()
        settings, dataset = prepare(options, directory)
        if mirror is not None:
            mirror.upload(STUDY_JSON, VALIDATION)
        is_complete = _run(directory, settings, dataset, options, mirror)

    rows = read_rows(directory, options.storage)
    write_parquet(rows, directory / TRIALS_PARQUET)
    if mirror is not None:
        mirror.upload(TRIALS_PARQUET)
    show(rows, title(shown, rows))
    if not is_complete:
        again = f"python -m search.run --resume --name {shlex.quote(directory.name)}"
        again += "" if parent(shown) == DEFAULT_RESULTS else f" --results {shlex.quote(parent(shown))}"
        ended = sum(row.state in STATE_STYLES and row.origin is None for row in rows)
        cli.console.print(
            f"interrupted with {ended} of {settings.trials} trials ended; go on with:\n  {again}", soft_wrap=True
        )
        sys.exit(INTERRUPTED)
    if TrainConfig.from_json(settings.base_config).all_participants:
        cli.console.print(
            "these accuracies are of people that were trained on: select from the held-out refits, and ship these with "
            f"--ship {shlex.quote(shown)}",
            soft_wrap=True,
        )
    else:
        again = f"python -m ensemble.select --budget --results {shlex.quote(shown)}"
        cli.console.print(f"next: {again}", soft_wrap=True)


if __name__ == "__main__":
    cli.run(main)
