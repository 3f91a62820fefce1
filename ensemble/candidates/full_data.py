"""Weights to ship in place of the selected ones: the same training, on all participants.

Weights trained on everyone cannot be evaluated. So members are selected, and accuracies reported, by the trials that
held participants out.
"""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

from ensemble.candidates.pool import Candidate, Pool, listed, to_member, without_folder
from trainer.common.errors import UserError
from trainer.common.storage import base_name, join, parent
from trainer.config import TrainConfig
from trainer.rundir import RunDir
from trainer.studydir import STUDY_JSON, StudyDir, no_study, resume_command


class FullData:
    """The finished trainings of a study on all participants, found by their configurations."""

    def __init__(self, study: Path, where: str | None = None) -> None:
        """``where`` is the path or URI that the user knows the study by.

        Raises UserError if the study has none. A broken trial is none, and is named where one is missing.
        """
        where = str(study) if where is None else where
        self._resume = f"go on with: {resume_command(where, retry_failed=True)}"
        if not study.is_dir():
            raise UserError(f"{study}: there is no such folder; give a study made by search.refit", field="ship")
        self._study = study
        self._runs: dict[TrainConfig, RunDir] = {}
        self._unfinished: dict[TrainConfig, RunDir] = {}
        broken: dict[str, str] = {}
        for run in StudyDir(study).trials():
            try:
                config = run.read_config()
                if config.all_participants:
                    (self._runs if run.is_done else self._unfinished)[config] = run
            except UserError as error:
                broken[run.path.name] = without_folder(error, run.path)
        self._broken = listed(broken)
        if not self._runs and self._unfinished:
            raise UserError(
                f"{where}: none of its trainings on all participants is finished{self._broken}; {self._resume}",
                field="ship",
            )
        if not self._runs and not StudyDir(study).exists:
            raise UserError(no_study(where, STUDY_JSON), field="ship")
        if not self._runs:
            command = _refit_command(where, StudyDir(study).read_request())
            raise UserError(
                f"{where}: holds no training on all participants{self._broken}; make a study of them with: {command}",
                field="ship",
            )

    def require_like(self, pool: Pool) -> None:
        """Raises UserError if the study knows other signs than the pool's studies, or was made on other data."""
        request = StudyDir(self._study).read_request()
        for name, expected in (("label_names", list(pool.label_names)), ("data_fingerprint", pool.fingerprint)):
            if request.get(name) != expected:
                raise UserError(
                    f"{self._study / STUDY_JSON}: {name}: is not that of {pool.studies[0]}; give a refit of that",
                    field="ship",
                )

    def only_shippable(self, pool: Pool) -> Pool:
        """The pool without the trials whose weights for shipping are missing, of other data, broken or changed.

        These are left out with their reasons, so that none of them is selected. Raises UserError if none is left.
        """
        candidates, left_out = [], dict(pool.left_out)
        errors: list[UserError] = []
        for candidate in pool.candidates:
            try:
                _require_whole(self.of(candidate))
                candidates.append(candidate)
            except UserError as error:
                errors.append(error)
                without_name = error.message.replace(f"trial {candidate.name}'s", "its")
                left_out[candidate.name] = f"cannot be shipped: {without_name}"
        if errors and not candidates:
            raise UserError(errors[0].message, field="ship") from errors[0]
        return pool.replace(candidates=candidates, left_out=left_out)

    def of(self, candidate: Candidate) -> Candidate:
        """The candidate with the weights trained on all participants.

        Raises UserError if its configuration was not trained so, or on other data.
        """
        wanted = candidate.run.read_config().replace(all_participants=True)
        if wanted not in self._runs and wanted in self._unfinished:
            raise UserError(
                f"{self._study}: its training of trial {candidate.name}'s configuration and seed, trial "
                f"{self._unfinished[wanted].path.name} there, is not finished{self._broken}; {self._resume}",
                field="ship",
            )
        if wanted not in self._runs:
            raise UserError(
                f"{self._study}: holds no finished training of trial {candidate.name}'s configuration and seed"
                f"{self._broken}; refit the same study with the same number of trials, seeds and epochs; if that was "
                f"done and a trial failed, {self._resume}",
                field="ship",
            )
        run = self._runs[wanted]
        if run.read_result().data_fingerprint != candidate.run.read_result().data_fingerprint:
            raise UserError(f"{self._study}: was trained on another dataset than trial {candidate.name}", field="ship")
        return dataclasses.replace(candidate, run=run)


def _refit_command(where: str, request: dict[str, Any]) -> str:
    """The command that trains a study's best on all participants; of a refit, what that trained with some held out."""
    words = [where]
    match request:
        case {"points": [_, *_], "space": {"seed": {"high": int(last)}}, "trials": int(trials), "epochs": int(epochs)}:
            source = base_name(where).removesuffix("-refit")
            words = [join(parent(where), source) if source != base_name(where) else "STUDY"]  # which was refitted
            words += ["--top", str(trials // (last + 1)), "--seeds", str(last + 1), "--epochs", str(epochs)]
    return shlex.join(["python", "-m", "search.refit", *words, "--all-participants"])


def _require_whole(full: Candidate) -> None:
    """Raises UserError if weights that were trained on all participants cannot be used, or are not what was left.

    What they predict is asked once they are selected (ensemble.candidates.reproduction.require_result).
    """
    try:
        full.run.require_unchanged(needs_hashes=False)
        full.run.require_own_result(full.run.read_config(), full.run.read_result())
        to_member(full, 1)
    except UserError as error:
        where = full.run.path
        raise UserError(f"{where}: {without_folder(error, where)}; train it again", field="ship") from error
