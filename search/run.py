"""Search for good configurations: Optuna decides, Ray Tune executes, everything lands in results/STUDY.

    python -m search.run --trials 64 --data PACKED            # this machine
    python -m search.run --trials 64 --data PACKED --address auto --gpus-per-trial 0.25
    python -m search.run --trials 64 --data s3://... --results s3://... --address auto    # nodes that share no folder
    python -m search.run --resume --name STUDY                # goes on after any interruption

With no --data, a small generated dataset is made and searched on.
"""

import argparse
import contextlib
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

from search.decide.study import Assignment, SearchStudy
from search.decide.warm_start import earlier_trials
from search.execute import cluster
from search.execute.dispatch import Brake, Dispatcher, StudyScheduler, StudySearcher
from search.execute.loggers import LOGS, check_installed
from search.execute.out_of_memory import memory_kills_end_one_trial
from search.execute.worker import Order, run_trial
from search.options import DEFAULT_RESULTS, parse, ray_options
from search.prepare import make_study, resume_study
from search.record import remote_lock
from search.record.remote_copy import StudyMirror
from search.record.request import STUDY_JSON, VALIDATION, Settings, find_study, write_validation
from search.record.storage import lacks_password, without_password
from search.show.progress import STATE_STYLES, Progress
from search.table import TRIALS_PARQUET, read_rows, show, title, to_rows, write_parquet
from trainer.common import cli
from trainer.common.console import console
from trainer.common.errors import UserError
from trainer.common.files import LOCK, locked
from trainer.common.storage import Remote, base_name, is_uri, join, parent
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset

INTERRUPTED: Final = 130  # exit status


@contextlib.contextmanager
def _interruptible(brake: Brake, progress: Progress) -> Iterator[None]:
    """The first SIGINT pulls the brake; a second one ends the process at once."""
    before = signal.getsignal(signal.SIGINT)

    def pull(*_: object) -> None:
        brake.pulled = True
        signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the search was started to ignore it
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


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep the study to this process. Raises UserError if another one has it."""
    with locked(directory, "another search is at work on this study; let it end, or stop it"):
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
        if not (directory / VALIDATION).exists():
            write_validation(dataset, TrainConfig.from_json(settings.base_config), directory)
        settings.write(directory)  # only now there is a study: nothing keeps it from starting any more
        if mirror is not None:
            mirror.upload(STUDY_JSON, VALIDATION)
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
            console = Console(file=sys.stdout, highlight=False, emoji=False)
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
        raise UserError(f"--name: must be the name of one folder under --results, not {name!r}")


def main() -> None:
    options = parse()
    if options.resume and options.name is None:
        raise UserError("--resume: say which study with --name")
    if options.name is not None:
        check_name(options.name)
    shown = join(options.results, options.name or datetime.now().strftime("%Y-%m-%d-%H%M%S"))
    if options.resume and not is_study(shown):
        raise UserError(f"{shown}: there is no study here to go on with")
    if not options.resume and is_study(shown):
        raise UserError(f"{shown}: there is a study of this name; choose another --name, or go on with --resume")
    carry_out(shown, resume_study if options.resume else make_study, options)


def is_study(where: str) -> bool:
    """Whether there is a study in a folder or behind a URI."""
    return Remote.open(where).has(STUDY_JSON) if is_uri(where) else Path(where, STUDY_JSON).exists()


def resume_command(shown: str, options: argparse.Namespace) -> str:
    """What goes on with a study as it was run; a database's password is not in it."""
    words = ["--name", base_name(shown)]
    if parent(shown) != DEFAULT_RESULTS:
        words += ["--results", parent(shown)]
    if options.storage is not None and lacks_password(url := without_password(options.storage)):
        words += ["--storage", url]
    return shlex.join(["python", "-m", "search.run", "--resume", *words, *ray_options(options)])


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
            stack.enter_context(remote_lock.held(mirror.remote, directory))
            mirror.fetch()
        settings, dataset = prepare(options, directory)
        try:
            is_complete = _run(directory, settings, dataset, options, mirror)
        except KeyboardInterrupt:
            if (directory / STUDY_JSON).exists():
                console.print(f"go on with:\n  {resume_command(shown, options)}", soft_wrap=True, markup=False)
            raise
        finally:
            if mirror is not None:
                mirror.upload_logs()

    rows = read_rows(directory, options.storage)
    write_parquet(rows, directory / TRIALS_PARQUET)
    if mirror is not None:
        mirror.upload(TRIALS_PARQUET)
    show(rows, title(shown, rows))
    if not is_complete:
        ended = sum(row.state in STATE_STYLES and row.origin is None for row in rows)
        again = resume_command(shown, options)
        console.print(
            f"interrupted with {ended} of {settings.trials} trials ended; go on with:\n  {again}",
            soft_wrap=True,
            markup=False,
        )
        sys.exit(INTERRUPTED)
    if TrainConfig.from_json(settings.base_config).all_participants:
        console.print(
            "these accuracies are of people that were trained on: select from the held-out refits, and ship these with "
            f"--ship {shlex.quote(shown)}",
            soft_wrap=True,
            markup=False,
        )
    else:
        again = f"python -m ensemble.select --budget --results {shlex.quote(shown)}"
        console.print(f"next: {again}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    cli.run(main)
