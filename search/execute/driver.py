"""A search from beginning to end: what search.run and search.refit do, and search.search from Python."""

import contextlib
import dataclasses
import inspect
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any, Final

from ray import tune

from search.decide.study import Assignment, SearchStudy
from search.execute import cluster
from search.execute.dispatch import Beginnings, Brake, Dispatcher, StudyScheduler, StudySearcher
from search.execute.loggers import LOGS, check_installed
from search.execute.out_of_memory import memory_kills_end_one_trial
from search.execute.training import Order
from search.execute.worker import run_trial
from search.options import RunOptions, SearchOptions
from search.prepare import new_study, resumed_study
from search.record import remote_lock
from search.record.finished import Study
from search.record.remote_copy import RemoteCopy
from search.record.request import Request, find_database
from search.record.trials import Row, read_rows, to_rows, write_parquet
from search.show.progress import STATE_STYLES, Progress
from search.show.starting import Starting
from trainer.common.console import LastingConsole
from trainer.common.credentials import kept
from trainer.common.errors import UserError
from trainer.common.fields import suggestion
from trainer.common.files import LOCK, locked, sha256
from trainer.common.patience import PATIENCE
from trainer.common.signals import STOPPING, handled, stop
from trainer.common.storage import Remote, base_name, is_uri, join
from trainer.common.strict import described
from trainer.data.dataset import PackedDataset
from trainer.studydir import STUDY_JSON, TRIALS_PARQUET, VALIDATION, StudyDir, resume_command, studies_in
from trainer.validation import Validation

ONE_SIGNAL_SECONDS: Final = 1.0
MOST_BYTES: Final = 200  # of a study's name: systems take 255, and to it belong suffixes
Prepare = Callable[[StudyDir], tuple[Request, PackedDataset]]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a search ended."""

    where: str
    """The study's folder or URI"""
    request: Request
    rows: list[Row]
    """Its trials, best first"""
    is_complete: bool
    """Whether as many trials have ended as were asked for"""
    stopped_by: int | None = None
    """The signal that ended it before, if one did"""


def search(data: str | Path | None = None, **options: Any) -> Study:
    """Search for good configurations, as ``python -m search.run`` does, and return the study.

    ``data`` is a packed dataset (a folder or a URI; default: a small generated one). ``options`` are the fields of
    ``search.options.SearchOptions``. When it is interrupted, or its time budget is used up, it returns the study as it
    stands; call it again with the study's name and resume=True to go on. Raises UserError for what cannot be done.

    >>> from search import search
    >>> study = search("results/data/asl-signs", trials=64, epochs=30, name="asl", time_budget="8h")  # doctest: +SKIP
    >>> study.best.val_accuracy  # doctest: +SKIP
    0.834
    """
    known = {item.name for item in dataclasses.fields(SearchOptions)}
    for name in options.keys() - known:
        raise UserError(f"there is no such option{suggestion(name, known)}", field=name)
    asked = SearchOptions(data=data, **options)  # type: ignore[arg-type]
    outcome = run_search(asked)
    if outcome.stopped_by in STOPPING:
        signal.raise_signal(outcome.stopped_by)  # the search has stopped; what else this process does is its own affair
    return Study(outcome.where, asked.storage)


_parameters = [
    inspect.Parameter(item.name, inspect.Parameter.KEYWORD_ONLY, default=item.default, annotation=item.type)
    for item in dataclasses.fields(SearchOptions)
    if item.name != "data"
]
_data = inspect.Parameter("data", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation="str | Path | None")
search.__signature__ = inspect.Signature([_data, *_parameters], return_annotation=Study)  # type: ignore[attr-defined]


def named(options: SearchOptions) -> SearchOptions:
    """The options with a name for the study: as given, or the date and time. Raises UserError if it cannot be one."""
    name = datetime.now().strftime("%Y-%m-%d-%H%M%S") if options.name is None else options.name
    check_name(name)
    return dataclasses.replace(options, name=name)


def run_search(options: SearchOptions, starting: Starting | None = None) -> Outcome:
    """Make a study, or go on with one, as the options say. Raises UserError."""
    where = join(options.results, named(options).name or "")
    if options.resume and not is_study(where):
        raise UserError(f"{where}: there is no study here to go on with{_others(options.results, where)}")
    if not options.resume and is_study(where):
        raise UserError(f"{where}: there is a study of this name; choose another (name), or resume it (resume)")
    prepare = resumed_study if options.resume else new_study
    return carry_out(where, lambda study: prepare(options, study), options, options.storage, starting)


def _others(results: str, where: str) -> str:
    """Which studies there are where one is missing, those of the likest names first, and how to resume the first."""
    names = [] if is_uri(results) else studies_in(Path(results), like=base_name(where))
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    command = resume_command(join(results, names[0]))
    return f"; {results} has {', '.join(names[:3])}{more}; go on with {names[0]}: {command}"


def check_name(name: str) -> None:
    """Raise UserError if a study cannot be called so."""
    if name in ("", "..") or name != Path(name).name:
        raise UserError(f"must be the name of one folder in that of all studies, not {described(name)}", field="name")
    if name.startswith("-") or name != name.strip() or not name.isprintable():
        raise UserError(
            f"must be text that begins with no dash and has no space at its ends, not {described(name)}", field="name"
        )
    if (size := len(name.encode())) > MOST_BYTES:
        raise UserError(f"must have at most {MOST_BYTES} bytes, not {size}", field="name")


def is_study(where: str) -> bool:
    """Whether there is a study in a folder or behind a URI."""
    return Remote.open(where).has(STUDY_JSON) if is_uri(where) else StudyDir(Path(where)).exists


def carry_out(
    where: str, prepare: Prepare, options: RunOptions, url: str | None = None, starting: Starting | None = None
) -> Outcome:
    """Run the study that ``prepare`` describes, in the folder or behind the URI ``where``, until it is complete.

    ``url`` is that of its database, if it is not study.db. Raises UserError if the folder cannot be used.
    """
    if options.log is not None:
        check_installed(options.log)
    if options.address is not None:
        cluster.find_cluster(options.address)  # before there is a study
    remote = RemoteCopy(Remote.open(where, PATIENCE)) if is_uri(where) else None
    study = StudyDir(Path(where).absolute() if remote is None else remote.directory)
    cluster.check_writable(study.path)
    with _locked(study), starting or Starting() as starting, contextlib.ExitStack() as stack:
        if remote is not None:
            remote.remote.check_writable(study.path)
            stack.enter_context(remote_lock.held(remote.remote, study.path))
            remote.fetch()
        starting.stop()  # what follows may print
        request, dataset = prepare(study)
        brake = Brake(options.time_budget)
        try:
            retry_failed = isinstance(options, SearchOptions) and options.retry_failed
            is_complete = _run(_Run(study, request, dataset, remote, url, retry_failed), options, brake, starting)
        finally:
            if remote is not None:
                remote.upload_logs()

    rows = read_rows(study.path, url, patience=PATIENCE)
    write_parquet(rows, study.path)
    if remote is not None:
        remote.upload(TRIALS_PARQUET)
    return Outcome(where, request, rows, is_complete, brake.signum)


@contextlib.contextmanager
def _locked(study: StudyDir) -> Iterator[None]:
    """Keep the study to this process. Raises UserError if another one has it."""
    with locked(study.path, "another search is at work on this study; let it end, or stop it"):
        try:
            yield
        finally:
            if not study.exists:  # refused before it began: leave nothing behind
                (study.path / LOCK).unlink()
                with contextlib.suppress(OSError):
                    study.path.rmdir()


@dataclasses.dataclass(frozen=True)
class _Run:
    """A study that is ready to be run."""

    study: StudyDir
    request: Request
    dataset: PackedDataset
    remote: RemoteCopy | None
    url: str | None
    retry_failed: bool
    """Whether trials that failed are to be tried again"""


def _run(run: _Run, options: RunOptions, brake: Brake, starting: Starting) -> bool:
    """Search until the study is complete; False if interrupted before."""
    study, request, remote = run.study, run.request, run.remote
    resources = cluster.Resources.of(options)
    starting.say("starting Ray" if options.address is None else f"joining Ray at {options.address}")
    with cluster.connect(options.address, resources, options.workers):
        cluster.check_nodes(study.path, run.dataset, None if remote is None else remote.remote.uri)
        if not (study.path / VALIDATION).exists():
            config = request.to_config()
            held_out = Validation.of(run.dataset, config.num_folds, None if request.is_rotated else config.fold)
            study.write_validation(held_out, tuple(request.label_names))
            request = dataclasses.replace(request, validation_sha256=sha256(study.path / VALIDATION))
        request.write(study)  # only now there is a study: nothing keeps it from starting any more
        if remote is not None:
            remote.upload(STUDY_JSON, VALIDATION)
        database, _ = find_database(study, run.url)
        deciding = SearchStudy(study, request, database, remote, retry_failed=run.retry_failed)
        try:
            console = LastingConsole(file=sys.stdout, highlight=False, emoji=False)
            progress = Progress(
                console,
                study.path.name,
                request.trials,
                deciding.rule.foresee,
                memory=cluster.memory if options.address is None else None,
                allowed=brake.seconds_left,
            )
            _tell_what_was(deciding, progress)
            starting.stop()
            with progress:
                callbacks = [] if options.log is None else [LOGS[options.log](study.path)]
                return run_trials(deciding, run.dataset, options, progress, callbacks, brake)
        finally:
            deciding.close()


def _tell_what_was(study: SearchStudy, progress: Progress) -> None:
    """Show the trials of a resumed study."""
    for row in to_rows(study.trials()):
        if row.state in STATE_STYLES and row.origin is None:
            progress.earlier(row.number, row.state, row.val_accuracy, row.params, row.epochs)
        elif row.number in study.paused:
            progress.waited(row.number, row.val_accuracy, row.params, row.epochs)


def run_trials(
    study: SearchStudy,
    dataset: PackedDataset,
    options: RunOptions,
    progress: Progress,
    callbacks: Sequence[tune.Callback] = (),
    brake: Brake | None = None,
) -> bool:
    """Run the trials that the study hands out until all have ended; False if stopped before, by a signal or time.

    Ray must be connected. Whatever happens, trials that ended are in the study and the others can go on.
    Raises UserError if something keeps all of them from going on, such as a full disk.
    """
    resources = cluster.Resources.of(options)

    to_ray = _orders(study, dataset, options)
    room = cluster.Room(resources, options.workers)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(room())  # so that all workers start at once
    brake = brake or Brake(options.time_budget)
    dispatcher = Dispatcher(study, progress, room, to_ray, brake)
    with (
        tempfile.TemporaryDirectory(prefix="ray-tune-") as scratch,
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),  # Ray prints there from a thread of its own; progress has its own console
        _interruptible(brake, progress),
        memory_kills_end_one_trial(),
    ):
        tune.run(
            tune.with_parameters(run_trial, keys=keys) if (keys := kept()) else run_trial,  # not in Ray's logs
            name="trials",
            search_alg=StudySearcher(dispatcher),
            scheduler=StudyScheduler(dispatcher),
            stop=brake,
            num_samples=-1,  # the searcher says when it is enough
            resources_per_trial=resources.to_ray(),
            reuse_actors=True,
            storage_path=scratch,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
            callbacks=[Beginnings(dispatcher), *callbacks],
            raise_on_failed_trial=False,
            verbose=0,
        )
    if brake.is_time_up:
        progress.note("the time budget is used up")
    if brake.fault:
        raise brake.fault
    return study.is_finished


def _orders(study: SearchStudy, dataset: PackedDataset, options: RunOptions) -> Callable[[Assignment], dict[str, Any]]:
    """What the worker of a trial is given: an Order, as a dict."""
    is_shared = options.trials_per_gpu is not None or options.one_process
    host = secrets.token_hex(8) if is_shared else None
    device = "cuda" if cluster.Resources.of(options).gpus > 0 else "cpu"

    def to_ray(assignment: Assignment) -> dict[str, Any]:
        order = Order(
            number=assignment.number,
            config=assignment.config.to_json(),
            run=study.run_place(assignment.number),
            data=dataset.source,
            last_epoch=assignment.last_epoch,
            threads=options.cpus_per_trial,
            device=device,
            host=host,
        )
        return vars(order)

    return to_ray


@contextlib.contextmanager
def _interruptible(brake: Brake, progress: Progress) -> Iterator[None]:
    """The first SIGINT, SIGTERM or SIGHUP pulls the brake; a later one ends the process at once.

    Not one within a second: whoever signals a process and its group, as timeout(1) does, signals it twice.
    """
    pulled_at = 0.0

    def pull(signum: int, _: Any) -> None:
        nonlocal pulled_at
        if brake.signum is not None:
            if signum in STOPPING and monotonic() - pulled_at < ONE_SIGNAL_SECONDS:
                return
            stop(signum)
        pulled_at = monotonic()
        brake.pulled, brake.signum = True, signum
        again = "press Ctrl-C again" if signum == signal.SIGINT else f"send {signal.Signals(signum).name} again"
        progress.note(f"stopping; {again} to stop at once")

    with handled(pull, signal.SIGINT, *STOPPING):
        yield
