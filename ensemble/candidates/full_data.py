"""Weights to ship in place of those that were selected: the same training, on all participants.

Nothing can be measured of them, since nobody was held out. So members are selected, and every accuracy is reported, by
what their held-out twins predict.
"""

import dataclasses
from pathlib import Path

from ensemble.candidates.pool import TRIALS, Candidate
from trainer.common.errors import UserError
from trainer.rundir import RunDir


class Twins:
    """Finished trainings on all participants, found by their configurations."""

    def __init__(self, study: Path) -> None:
        """Raises UserError if the study has none."""
        self._study = study
        runs = [run for path in sorted((study / TRIALS).glob("*/")) if (run := RunDir(path)).is_done]
        configs = [(run.read_config(), run) for run in runs]
        self._runs = {config: run for config, run in configs if config.all_participants}
        if not self._runs:
            raise UserError(
                f"--ship {study}: holds no training on all participants; make it with: "
                "python -m search.refit STUDY --all-participants"
            )

    def of(self, candidate: Candidate) -> Candidate:
        """The candidate with its twin's weights. Raises UserError if it has no twin, or one on other data."""
        wanted = candidate.run.read_config().replace(all_participants=True)
        if wanted not in self._runs:
            raise UserError(
                f"--ship {self._study}: holds no finished training of trial {candidate.name}'s configuration and seed; "
                "refit the same study with the same --top, --seeds and --epochs"
            )
        twin = self._runs[wanted]
        if twin.read_result().data_fingerprint != candidate.run.read_result().data_fingerprint:
            raise UserError(f"--ship {self._study}: was trained on another dataset than trial {candidate.name}")
        return dataclasses.replace(candidate, run=twin)
