"""What a trial's own files say, where the study's database or its study.json says something else.

The files of a finished trial are the truth: they are synced, hashed, and what an ensemble is selected from. A database
may be older than they are (a backup, a power cut), another study's, or changed by hand.
"""

import itertools
import math
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

from optuna.trial import FrozenTrial, TrialState

from search.problem.objective import REMOVED
from search.problem.ranges import Range, allows, field_value
from search.problem.space import by_field
from search.record.request import Request
from trainer.common.errors import UserError
from trainer.common.fields import shorten
from trainer.common.strict import described
from trainer.config import TrainConfig
from trainer.model.classifier import num_parameters
from trainer.rundir import BRING_BACK, CONFIG, DONE, METRICS, EpochMetrics, Result, RunDir
from trainer.studydir import STUDY_JSON, TRIALS, StudyDir

ORIGIN: Final = "warm_start"  # user attribute: the study that a trial comes from, and its number there
BRING_BACK_EITHER: Final = "bring back whichever was changed"
LARGE: Final = 1e12  # a number that is not shown digit by digit
ROUNDING: Final = 1e-6  # of an accuracy or a loss; relative where it is above 1


def is_own(trial: FrozenTrial) -> bool:
    """Whether a trial is one of its study's own, not of an earlier study that it began with."""
    return ORIGIN not in trial.user_attrs


def is_finished_only_there(study: StudyDir, trial: FrozenTrial) -> bool:
    """Whether a trial is finished by its own files, and by the database is not."""
    return trial.state != TrialState.COMPLETE and is_own(trial) and study.trial(trial.number).is_done


def is_finished_without_files(study: StudyDir, trial: FrozenTrial) -> bool:
    """Whether a trial is finished by the database, and has no done.json, in a study that has trials' folders."""
    is_there = (study.path / TRIALS).is_dir() and not study.trial(trial.number).is_done
    return is_there and trial.state == TrialState.COMPLETE and is_own(trial)


def metrics_of(run: RunDir, trial: FrozenTrial) -> list[EpochMetrics]:
    """A trial's own record of its epochs. Raises UserError if it is broken, or not what the database has of them."""
    metrics = run.read_metrics()
    for item in metrics:
        known = trial.intermediate_values.get(item.epoch)
        if known is not None and not math.isclose(known, item.val_accuracy, rel_tol=ROUNDING, abs_tol=ROUNDING):
            raise UserError(
                f"{run.path / METRICS}: has an accuracy of {item.val_accuracy:.4f} after epoch {item.epoch}, and the "
                f"database {known:.4f}; {BRING_BACK_EITHER}"
            )
    ended = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    if ended and metrics and trial.last_step not in (None, last := metrics[-1].epoch):
        raise UserError(
            f"{run.path / METRICS}: ends after epoch {last}, the trial after {trial.last_step}; {BRING_BACK}"
        )
    return metrics


def most_trials(request: Request, trials: list[FrozenTrial]) -> int | None:
    """How many trials a study can have, of which a database has these; None if that cannot be told."""
    earlier = sum(not is_own(trial) for trial in trials)
    return None if request.warm_start and not earlier else request.trials + earlier


def misnumbered(request: Request, trials: list[FrozenTrial], others: Collection[int] = ()) -> dict[int, str]:
    """What is wrong with the numbers of a study's trials, which count from 0, by the number.

    ``others`` are those of trials that are there but cannot be read.
    """
    counts, most = Counter([*(trial.number for trial in trials), *others]), most_trials(request, trials)
    words = {number: f"has {count} trials {number}" for number, count in counts.items() if count > 1}
    for number in counts:
        if most is not None and number >= most:
            words[number] = f"has a trial {number}, and {STUDY_JSON} asks for trials 0 to {most - 1}"
    last = max((number for number in counts if number not in words), default=0)
    return words | {number: f"has no trial {number}, and later ones" for number in range(last) if number not in counts}


class OwnFiles:
    """Compares trials with their own files, each of which is read once."""

    def __init__(self, study: StudyDir, request: Request) -> None:
        """Of a study as its study.json, which is ``request``, has it. Raises UserError if that is broken."""
        self._study, self._request = study, request
        self._space = request.to_space()
        self._objective = request.to_objective()
        self._configs: dict[Path, TrainConfig | None] = {}
        self.broken: dict[int, UserError] = {}
        """Why files of trials cannot be read, by number, of those that were asked about"""

    def contradiction(self, trial: FrozenTrial) -> str | None:
        """What the database says of a trial that its files do not, and in which file; None if they agree.

        Of a trial without files, or with broken ones, there is nothing to say.
        """
        if trial.state == TrialState.COMPLETE and len(trial.values or ()) != (count := len(self._objective.directions)):
            asked = f"the objective {self._objective.name} of {self._study.path / STUDY_JSON} has {count}"
            return f"trial {trial.number} has {len(trial.values or ())} values there, and {asked}"
        run = self._study.trial(trial.number)
        config = self._config_of(run) if is_own(trial) else None
        if config is None:
            return None
        known = config.to_flat()
        for name, value in by_field(trial.params).items():
            if name not in known:
                return f"trial {trial.number} has a field {shorten(name)!r} there, and {run.path / CONFIG} has none"
            if (trained := field_value(config, name)) != value:
                return f"trial {trial.number} has {name} {value} there, and {trained} in {run.path / CONFIG}"
        ended = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        if ended and (missing := self._missing(trial, config)):
            return f"trial {trial.number} has no {missing} there, and {run.path / CONFIG} has"
        if wrong := [step for step in trial.intermediate_values if not 1 <= step <= config.epochs]:
            epochs = f"{run.path / CONFIG} has epochs 1 to {config.epochs}"
            return f"trial {trial.number} has an accuracy after epoch {wrong[0]} there, and {epochs}"
        result = self._result_of(run)
        for name, there, own in () if result is None else self._numbers(trial, config, result):
            if not math.isclose(there, own, rel_tol=ROUNDING, abs_tol=ROUNDING):
                at = CONFIG if name == "num_parameters" else DONE
                form = ".4f" if max(abs(there), abs(own)) < LARGE else "g"
                said = f"{there:{form}} there, and {own:{form}} in {run.path / at}"
                return f"trial {trial.number} has {name} {said.replace('.0000', '')}"
        return None

    def _missing(self, trial: FrozenTrial, config: TrainConfig) -> str | None:
        """A searched field that an ended trial was trained with, and that the database has not."""
        drawn = self._space.draw(lambda item: field_value(config, item.field))
        return next((name for name in drawn if name not in by_field(trial.params)), None)

    def _numbers(self, trial: FrozenTrial, config: TrainConfig, result: Result) -> list[tuple[str, float, float]]:
        """What both say of a trial that is finished by its files: name, the database's, the files'."""
        found = []
        if result.epochs in trial.intermediate_values:
            found.append(("val_accuracy", trial.intermediate_values[result.epochs], result.val_accuracy))
        if trial.state != TrialState.COMPLETE:
            return found
        if self._objective.name != REMOVED:
            names = ("val_accuracy", *self._objective.name.split(",")[1:])
            values = self._objective.values(config.model, result.val_accuracy)
            found += zip(names, trial.values or (), values, strict=False)
        own: dict[str, float] = {
            "val_log_loss": result.val_log_loss,
            "seconds": result.seconds,
            "num_parameters": num_parameters(config.model),
        }
        return found + [(name, trial.user_attrs[name], own[name]) for name in own if name in trial.user_attrs]

    def departure(self, run: RunDir) -> str | None:
        """A trial's fixed field, or dataset, that is not what study.json says now; None if all are."""
        config, number = self._config_of(run), int(run.path.name)
        if config is None:
            return None
        try:
            expected = self._space.config_with(number, lambda item: _drawn(config, item))
        except ValueError as error:  # also a FieldError
            return f"space: {error}; trial {number} was trained so ({run.path / CONFIG})"
        if expected != config:
            trained = config.to_flat()
            name, value = next(item for item in expected.to_flat().items() if trained[item[0]] != item[1])
            return (
                f"base_config: {name} is {described(value)}, but trial {number} was trained with "
                f"{described(trained[name])} ({run.path / CONFIG})"
            )
        result = self._result_of(run)
        if result is not None and result.data_fingerprint != self._request.data_fingerprint:
            return f"data_fingerprint: is another dataset's than that of trial {number} ({run.path / DONE})"
        return None

    def require_study_json(self, trials: Sequence[FrozenTrial] = ()) -> None:
        """Raise UserError if a trial was trained, or by the database drawn, otherwise than study.json says of all."""
        departures = itertools.chain(map(self.departure, self._study.trials()), map(self._other_range, trials))
        if departed := next(filter(None, departures), None):
            raise UserError(f"{self._study.path / STUDY_JSON}: {departed}; bring the file back as it was written")

    def _other_range(self, trial: FrozenTrial) -> str | None:
        """A field that a trial drew from another range than study.json has now; Optuna refuses to draw from both."""
        for param, drawn_from in trial.distributions.items() if is_own(trial) else ():
            if drawn_from != self._space.distributions.get(param, drawn_from):
                return f"space: {param} has another range, or other choices, than trial {trial.number} drew it from"
        return None

    def _result_of(self, run: RunDir) -> Result | None:
        """None if it is not finished, or done.json is broken, which is that trial's own matter."""
        try:
            return run.read_result() if run.is_done else None
        except UserError as error:
            self.broken[int(run.path.name)] = error
            return None

    def _config_of(self, run: RunDir) -> TrainConfig | None:
        """None if there is none, or it is broken, which is that trial's own matter."""
        if run.path not in self._configs:
            self._configs[run.path] = None
            if (run.path / CONFIG).is_file():
                try:
                    self._configs[run.path] = run.read_config()
                except UserError as error:
                    self.broken[int(run.path.name)] = error
        return self._configs[run.path]


def _drawn(config: TrainConfig, item: Range) -> Any:
    """What a trial drew from a range. Raises ValueError if it cannot have."""
    value = field_value(config, item.field)
    if not allows(item.distribution, value):
        raise ValueError(f"{item.field} is never {described(value)} in it")
    return value
