"""Ensembles of a study's trials that fit a hard budget, as one TFLite file.

from ensemble import Submission, select

submission = select("results/asl", "40MB,100ms")  # writes results/asl/ensemble/submission.zip
submission.members, submission.cost, submission.accuracy
submission.predict("asl-signs/train_landmark_files/16069/100015657.parquet").head()

Submission.open("submission.zip")  # predicts without torch
"""

from typing import TYPE_CHECKING

from trainer.common import lazy

if TYPE_CHECKING:
    from ensemble.ship.pipeline import select as select
    from ensemble.tflite.submission import Submission as Submission

__all__ = lazy.install(__name__, {"select": "ensemble.ship.pipeline", "Submission": "ensemble.tflite.submission"})
