"""Weights to ship in place of the selected ones: the same training, on all participants.

Weights trained on everyone cannot be evaluated. So members are selected, and accuracies reported, by the trials that
held participants out.
"""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

from ensemble.candidates.pool import Candidate, Pool, listed, to_member, without_folder
from trainer.common.errors import UserError
from trainer.common.storage import join
from trainer.config import TrainConfig
from trainer.rundir import RunDir
from trainer.studydir import ENSEMBLE, SELECTION, STUDY_JSON, StudyDir, no_study, resume_command


class UnshippableError(Exception):
    """Selected trials have no weights that could ship in place of their own."""


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
            command = _refit_command(where)
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

    def unshippable(self, candidates: Sequence[Candidate]) -> dict[str, str]:
        """Why weights for shipping are missing, of other data, broken or changed, by the names of their trials."""
        reasons: dict[str, str] = {}
        for name, candidate in {candidate.name: candidate for candidate in candidates}.items():
            try:
                _require_whole(self.of(candidate))
            except UserError as error:
                its = error.message.replace(f"trial {name}'s", "its")
                reasons[name] = f"cannot be shipped: {its}"
        return reasons

    def require_some(self, candidates: Sequence[Candidate]) -> dict[str, str]:
        """What ``unshippable`` gives. Raises UserError if that is all of them."""
        reasons = self.unshippable(candidates)
        if reasons.keys() >= {candidate.name for candidate in candidates}:
            _require_whole(self.of(candidates[0]))
        return reasons

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
                f"{self._broken}; search.refit trains what was selected (ship_of); if that was done and it failed, "
                + self._resume,
                field="ship",
            )
        run = self._runs[wanted]
        if run.read_result().data_fingerprint != candidate.run.read_result().data_fingerprint:
            raise UserError(f"{self._study}: was trained on another dataset than trial {candidate.name}", field="ship")
        return dataclasses.replace(candidate, run=run)


def _refit_command(where: str) -> str:
    """The command that trains on all participants what was selected from a study."""
    selection = join(where, f"{ENSEMBLE}/{SELECTION}")
    return shlex.join(["python", "-m", "search.refit", where, "--ship-of", selection])


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
