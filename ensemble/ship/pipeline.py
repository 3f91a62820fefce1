"""From studies to submission.zip: open, measure, select, compare with PyTorch, check the contract, evaluate, write.

``select`` is the whole of it for Python; the command ensemble.select prints what ``run`` found.
"""

import dataclasses
import functools
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ensemble.budget import CONTEST, EXAMPLE, Budget
from ensemble.candidates.full_data import UnshippableError
from ensemble.candidates.measure import COSTS, PROBS, keeping_roots, measure
from ensemble.candidates.pool import IGNORED, NOT_FINISHED, Pool, by_reason
from ensemble.candidates.priced import PricedPool
from ensemble.candidates.reproduction import require_result
from ensemble.evaluation import frontier
from ensemble.evaluation.frontier import Asked
from ensemble.evaluation.preference import Preferred, preferred
from ensemble.evaluation.unseen import Accuracies, Unseen, seen_accuracies, unseen_accuracies
from ensemble.selection import baselines, scores
from ensemble.selection.baselines import Rule
from ensemble.selection.scores import Score
from ensemble.ship import contract, record
from ensemble.ship.asked import Opened, Request, open_studies
from ensemble.ship.fit import Choice, choose, reasons_left_out
from ensemble.ship.parity import Agreement, compare, unlike_selected
from ensemble.tflite import submission
from ensemble.tflite.export import PRECISIONS
from ensemble.tflite.latency import Target
from ensemble.tflite.submission import Submission
from trainer.common.console import console
from trainer.common.errors import StorageError, UserError
from trainer.common.fields import shown, to_place, trial_names
from trainer.common.files import to_path
from trainer.studydir import (
    ENSEMBLE,
    FRONTIER,
    SELECTION,
    SUBMISSION,
    write_frontier,
    write_selection,
)


class StudyLike(Protocol):
    """Anything with the path of a study, such as what ``search.search`` returns."""

    @property
    def path(self) -> Path: ...


@dataclass(frozen=True)
class Outcome:
    """Everything that was found on the way to a submission."""

    opened: Opened
    priced: PricedPool
    score: Score
    chosen: Choice
    preferred: Preferred
    agreement: Agreement
    num_checks: int
    """Clauses of the contest's contract, all of which hold"""
    seen: Accuracies
    unseen: Unseen | None
    left_out: dict[str, str]
    frontier: list[frontier.Row]
    before: Submission | None = None
    """What this one replaces, as it was written"""

    @property
    def faults(self) -> dict[str, str]:
        """Why trials that were finished are no candidates: what is wrong with them, by their names."""
        harmless = (NOT_FINISHED, IGNORED)
        faulty = {name: reason for name, reason in self.priced.pool.left_out.items() if reason not in harmless}
        return {name: reason for name, reason in self.left_out.items() if faulty.get(name) == reason}

    @functools.cached_property
    def selection(self) -> dict[str, Any]:
        """What selection.json says."""
        request = self.opened.request
        fields = {
            "studies": [study.name for study in self.priced.pool.studies],
            "budget": str(request.budget) or None,
            "metric": request.metric,
            "exact": request.exact,
            "prefer": request.prefer,
            "preferred_to": record.of_best(self.preferred.best),
            "shipped_weights": request.ship,
            "precisions": list(request.precisions),
            **record.of_choice(self.chosen),
            **record.of_target(request.target),
            "accuracy": record.of_accuracies(self.seen, self.unseen),
            "agreement_with_pytorch": dataclasses.asdict(self.agreement),
            "left_out": self.left_out,
        }
        return record.stamped(fields)

    def warnings(self) -> list[str]:
        """A line for each thing that is wrong with trials, whether they are left out for it or not."""
        names = {candidate.name for candidate in self.priced.pool.candidates}
        changed = {name: change for name, change in self.priced.pool.changed.items() if name in names}
        return [
            *(f"left out, {reason}: {' '.join(its)}" for reason, its in by_reason(self.faults).items()),
            *(
                f"not left out, as they predict what val_probs.npy says, though {change}: {' '.join(its)}"
                for change, its in by_reason(changed).items()
            ),
        ]


def select(
    studies: "str | Path | StudyLike | Sequence[str | Path | StudyLike]",
    budget: str | Budget | None = CONTEST,
    *,
    out: str | Path | None = None,
    ignore: str | int | Sequence[str | int] = (),
    data: str | Path | None = None,
    ship: "str | Path | StudyLike | None" = None,
    metric: str = "blend",
    exact: bool = False,
    precision: Sequence[str] = tuple(PRECISIONS),
    prefer: str = "cheapest",
    remeasure: bool = False,
    threads: int = 1,
    latency_scale: float = 1.0,
) -> Submission:
    """Build the best ensemble of the studies' trials that fits the budget, and write it as a submission.zip.

    ``studies`` are paths, URIs or objects with a ``path``. ``budget`` is written like "5.1M,40MB,100ms,3models"
    (parameters, file size, mean milliseconds a sequence, members); None means no limit. Writes submission.zip,
    selection.json and frontier.parquet to ``out``, by default the folder ``ensemble`` of the study. The other arguments
    are those of the command ensemble.select. Shows progress. Raises UserError naming the argument at fault.

    >>> submission = select("results/asl", "40MB,100ms")  # doctest: +SKIP
    >>> submission.members  # doctest: +SKIP
    """
    places = _several(studies)
    try:
        limits = Budget() if budget is None else Budget.parse(budget) if isinstance(budget, str) else budget
    except ValueError as error:
        raise UserError(str(error), field="budget") from error
    if not isinstance(limits, Budget):
        raise UserError(f"must be text such as {EXAMPLE}, a Budget or None, not {shown(limits)}", field="budget")
    if not places:
        raise UserError("must name a study", field="studies")
    request = Request(
        studies=tuple(_where(place, "studies") for place in places),
        budget=limits,
        out=None if out is None else to_path(out, "out"),
        ignore=_trials(ignore),
        data=None if data is None else to_place(data, "data"),
        ship=None if ship is None else _where(ship, "ship"),
        metric=metric,
        exact=exact,
        precisions=tuple(_several(precision)),
        prefer=prefer,
        remeasure=remeasure,
        target=Target(threads=threads, latency_scale=latency_scale),
    )
    opened = open_studies(request)
    for warning in run(opened).warnings():
        console.print(warning, soft_wrap=True, markup=False)
    return Submission.open(opened.out / SUBMISSION)


def _trials(given: Any) -> tuple[str, ...]:
    """Names of trials as Python's users give them: numbers, or as on the command line. Raises UserError."""
    try:
        return trial_names(",".join(map(str, several))) if (several := _several(given)) else ()
    except ValueError as error:
        raise UserError(str(error), field="ignore") from error


def _several(value: Any) -> list[Any]:
    """Studies or precisions, of which one may be given alone."""
    is_one = isinstance(value, str | os.PathLike) or hasattr(value, "path") or not isinstance(value, Iterable)
    return [value] if is_one else list(value)


def _where(study: Any, field: str) -> str:
    return to_place(study if isinstance(study, str | os.PathLike) else getattr(study, "path", study), field)


def run(opened: Opened) -> Outcome:
    """Do all the work, and write the files together in the end: until then an earlier selection stands as it was."""
    request, budget = opened.request, opened.request.budget
    priced = _measure(opened)
    while True:
        score = scores.SCORES[request.metric].of(priced.pool.val_probs, priced.pool.validation.labels)
        greedy: Rule = functools.partial(baselines.ours, trials=priced.trials)
        rule: Rule = functools.partial(baselines.ours, trials=priced.trials, exact=request.exact)
        try:
            chosen, within = _choose(opened, priced, score, rule)
        except UnshippableError:  # members are sought among all, and if some cannot ship, among those that can
            assert opened.full_data is not None
            priced = priced.without(opened.full_data.require_some(priced.pool.candidates))
            continue
        if opened.full_data and (unfit := _not_to_ship(chosen, priced.pool.itself)):
            priced = priced.without(unfit)
            continue
        precisions = {item.candidate.precision for item in chosen.members}
        selected = [(item.candidate.itself, item.count) for item in chosen.members]
        agreement = compare(chosen.model, chosen.shipped, priced.pool.itself, None if opened.full_data else selected)
        is_sure = agreement.is_as_selected(precisions) and not opened.full_data
        if is_sure or not (unlike := unlike_selected(selected, priced.pool.itself)):
            break
        priced = priced.without(unlike)
    agreement.require(precisions)
    unseen = unseen_accuracies(priced, score, within.unseen_right, priced.room(budget))
    asked = Asked(budget, chosen.counts, None if unseen is None else unseen.ensemble)
    outcome = Outcome(
        opened=opened,
        priced=priced,
        score=score,
        chosen=chosen,
        preferred=within,
        agreement=agreement,
        num_checks=_require_contract(chosen.model, len(priced.pool.label_names)),
        seen=seen_accuracies(priced, score, priced.room(budget), chosen.counts),
        unseen=unseen,
        left_out=reasons_left_out(priced, budget, chosen),
        frontier=frontier.sweep(priced, score, greedy, asked),
        before=_submission_before(opened.out / SUBMISSION),
    )
    _write(outcome)
    return outcome


def _choose(opened: Opened, priced: PricedPool, score: Score, rule: Rule) -> tuple[Choice, Preferred]:
    """The ensemble that ships. Raises UserError if no candidate fits the budget."""
    request = opened.request
    room = priced.room(request.budget)
    try:
        within = preferred(priced, score, room, rule, request.prefer, request.metric == "log_loss")
    except ValueError:  # which choosing explains
        within = Preferred(room, None)
    chosen = choose(priced, score, request.budget, rule, request.target, opened.full_data, within.capacity)
    if chosen.has_less_room:
        within = Preferred.of_room(priced, score, chosen.capacity, rule)
    return chosen, within


def _not_to_ship(chosen: Choice, pool: Pool) -> dict[str, str]:
    """Why weights that would be shipped in place of a member's own are not what they are said to be, by trial.

    Raises UserError if no other trial is left to be chosen.
    """
    unfit: dict[str, str] = {}
    for member, (full, _) in zip(chosen.members, chosen.shipped, strict=True):
        try:
            require_result(full, pool, member.candidate.itself.val_accuracy)
        except StorageError:
            raise
        except UserError as error:
            unfit[member.candidate.name] = f"cannot be shipped: {error.message}"
            if unfit.keys() >= {candidate.name for candidate in pool.candidates}:
                raise
    return unfit


def _measure(opened: Opened) -> PricedPool:
    """Measure the candidates, and bring what was measured to where the studies are: it is not lost if nothing fits."""
    request = opened.request
    roots = keeping_roots(opened.folders, request.out)
    priced = measure(opened.pool, request.precisions, request.target, request.remeasure, roots)
    for folder in opened.folders:
        if roots[folder.path] == folder.path:
            folder.publish(COSTS, PROBS)
    return priced


def _require_contract(model: bytes, num_signs: int) -> int:
    """How many clauses of the contest's contract a file keeps. Raises UserError if it breaks one."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / SUBMISSION
            submission.write(path, model)
            checks = contract.check(path, num_signs)
    except OSError as error:
        where = tempfile.gettempdir()
        words = f"{where}: cannot be written to ({error.strerror or error}); make room there, or set TMPDIR to another"
        raise UserError(f"{words} folder") from error
    if broken := [check for check in checks if not check.holds]:
        raise UserError(
            f"the chosen ensemble breaks the contest's contract: {broken[0].clause} ({broken[0].found}); nothing was "
            "written"
        )
    return len(checks)


def _submission_before(path: Path) -> Submission | None:
    """An earlier submission, if it is there and its selection.json tells of it."""
    try:
        before = Submission.open(path)
        return None if before.members is None else before
    except UserError:
        return None


def _write(outcome: Outcome) -> None:
    opened, request = outcome.opened, outcome.opened.request
    write_frontier(opened.out, outcome.frontier)
    submission.write(opened.out / SUBMISSION, outcome.chosen.model)
    write_selection(opened.out, outcome.selection)
    if request.out is None:
        opened.folders[0].publish(*(f"{ENSEMBLE}/{name}" for name in (FRONTIER, SUBMISSION, SELECTION)))
