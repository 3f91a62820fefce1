"""A study to look at from Python, finished or not: its trials and learning curves as DataFrames."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from search.problem.objective import DEFAULT_OBJECTIVE
from search.record.own_files import metrics_of
from search.record.request import Request
from search.record.trials import read_trials, to_rows, to_table
from trainer.common.errors import UserError
from trainer.common.fields import to_place
from trainer.common.storage import base_name
from trainer.common.strict import check_type
from trainer.studydir import Folder, StudyDir, for_reports


class Study:
    """What a search found, as it stood when it was loaded.

    >>> study = load_study("results/asl")  # doctest: +SKIP
    >>> study.trials[["number", "state", "val_accuracy", "learning_rate"]].head()  # doctest: +SKIP
    >>> study.curves().pivot(index="epoch", columns="trial", values="val_accuracy").plot()  # doctest: +SKIP
    """

    path: str
    """The study's folder or URI, as ensemble.select takes it"""
    name: str
    trials: pd.DataFrame
    """One row a trial, best first, with the columns of trials.parquet: number, state, reason, origin, the searched
    parameters, val_accuracy, val_log_loss, num_parameters, bytes, latency (milliseconds), on_front, epochs, seconds,
    by_hand, note"""
    num_asked: int
    """Trials that the search was asked for"""

    def __init__(self, where: str | Path, storage: str | None = None) -> None:
        """Of a study in a folder or behind a URI. Raises UserError if there is none, or it is broken."""
        if storage is not None:
            check_type("storage", storage, str)
        folder = Folder.open(to_place(where, "where"), for_reports)
        self.path = folder.shown
        self.name = base_name(folder.shown)
        self._dir = StudyDir(folder.path)
        at_work = folder.is_at_work
        self._frozen = read_trials(folder.path, storage)
        self.trials = to_table(to_rows(self._frozen, at_work, self._dir)).to_pandas()
        request = Request.read(self._dir)
        self.num_asked, self._objective = request.trials, request.objective

    @property
    def best(self) -> Any:
        """The complete trial of the highest accuracy, as a named tuple of its row; None if none is complete.

        >>> study.best.number, study.best.val_accuracy  # doctest: +SKIP
        (17, 0.834)
        """
        own = self.trials[(self.trials["state"] == "COMPLETE") & self.trials["origin"].isna()]
        own = own[own["val_accuracy"].notna()]
        return next(own.sort_values("val_accuracy", ascending=False, kind="stable").itertuples(index=False), None)

    @property
    def is_finished(self) -> bool:
        """Whether as many trials have ended as were asked for."""
        ended = self.trials["state"].isin(["COMPLETE", "PRUNED", "FAIL"]) & self.trials["origin"].isna()
        return int(ended.sum()) >= self.num_asked

    def curves(self) -> pd.DataFrame:
        """One row an epoch: trial, epoch, val_accuracy, and the other metrics where the trial's own record is here."""
        rows: list[dict[str, Any]] = []
        for trial in self._frozen:
            try:
                metrics = metrics_of(self._dir.trial(trial.number), trial)
            except UserError:
                metrics = []
            if metrics:
                rows += [{"trial": trial.number, **vars(item)} for item in metrics]
            else:
                rows += [
                    {"trial": trial.number, "epoch": epoch, "val_accuracy": value}
                    for epoch, value in sorted(trial.intermediate_values.items())
                ]
        return pd.DataFrame(rows, columns=None if rows else ["trial", "epoch", "val_accuracy"])

    def __repr__(self) -> str:
        return f"<{self._summary()}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: a line and the best trials."""
        shown = self.trials.dropna(axis="columns", how="all").head(10)
        form: dict[str, Callable[[Any], str]] = dict.fromkeys(("val_accuracy", "val_log_loss"), "{:.4f}".format)
        table: str = shown.to_html(index=False, formatters=form, na_rep="", border=0)
        more = f"<p>and {len(self.trials) - len(shown)} more</p>" if len(self.trials) > len(shown) else ""
        return f"<p>{self._summary()}</p>{table}{more}"

    def _summary(self) -> str:
        counts = self.trials["state"].value_counts()
        states = ", ".join(f"{count} {state}" for state, count in counts.items()) or "no trial yet"
        best = self.best
        found = "" if best is None else f"; best accuracy {best.val_accuracy:.4f} (trial {best.number})"
        scored = "" if self._objective == DEFAULT_OBJECTIVE else f", scored by {self._objective}"
        return f"study {self.name}{scored}: {states} of {self.num_asked}{found}"


def load_study(where: str | Path, storage: str | None = None) -> Study:
    """Load a study, finished or not, from its folder or URI.

    ``storage`` is the URL of the study's database, needed only where that has a password. Raises UserError if there is
    no study, or it is broken.

    >>> from search import load_study
    >>> load_study("results/asl").best.val_accuracy  # doctest: +SKIP
    0.834
    """
    return Study(where, storage)
