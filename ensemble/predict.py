"""Print the likeliest signs of landmark files, as a submission predicts them.

python -m ensemble.predict results/STUDY/ensemble/submission.zip FILE.parquet...
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainer.common import cli
from trainer.common.cli import command
from trainer.common.errors import UserError
from trainer.common.fields import option

MOST_FAULTS: Final = 50  # files that are named one by one


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Print the five likeliest signs of each landmark file, with their probabilities.

    Reads files as trainer.pack does: a frame has 543 landmarks (face, left hand, pose, right hand), and rows in another
    order are put into this one. A file with the columns x, y and z alone is taken to be in it. For a folder with a
    train.csv, the files that it lists are predicted, and the accuracy is printed; on a terminal or with --out, that of
    the least accurate signs too. Files that cannot be used are named at the end. Needs no torch."""

    submission: Path = option(positional=True, metavar="SUBMISSION")
    """The submission.zip, or a .tflite file."""
    paths: tuple[Path, ...] = option((), positional=True, metavar="PATH")
    """Landmark files in the contest's layout, or folders of them."""
    out: Path | None = option(None, metavar="CSV")
    """Write one line per file to this CSV file (path, sequence_id, sign, probability, true_sign, and the five likeliest
    signs with their probabilities), and print accuracies alone."""


@command(
    "ensemble.predict",
    PredictOptions,
    examples=[
        "results/asl/ensemble/submission.zip asl-signs/train_landmark_files/16069/100015657.parquet",
        "results/asl/ensemble/submission.zip asl-signs --out predictions.csv",
    ],
)
def main(options: PredictOptions) -> None:
    from ensemble.ship import predictions
    from ensemble.ship.predictions import Prediction
    from ensemble.tflite.submission import Submission
    from trainer.common.console import console, for_tables, track

    _check(options)
    submission = Submission.open(options.submission)
    model, label_names = submission.model, submission.label_names
    if doubt := submission.doubt():
        console.print(f"warning: {doubt}", soft_wrap=True, markup=False)
    sources = predictions.find_sources(options.paths)
    streams = options.out is None and not console.is_terminal
    done: list[Prediction] = []
    faults: list[str] = []
    try:
        for source in sources if streams else track(sources, len(sources), "predicting"):
            try:
                done.append(predictions.predict(model, label_names, source))
            except UserError as error:
                faults.append(str(error))
            else:
                if streams:
                    print(predictions.to_line(done[-1]))
    finally:  # interrupted too: what was predicted is not lost
        if options.out is not None and done:
            predictions.write_csv(options.out, done)
            console.print(f"wrote {options.out}: {len(done):,} sequences", soft_wrap=True, markup=False)
    if not streams and done and options.out is None:
        for_tables().print(predictions.to_table(done))
    if not streams and (worst := predictions.worst_signs(done, label_names)) is not None:
        for_tables().print(worst)
    if line := predictions.accuracy(done, label_names):
        console.print(line, soft_wrap=True)
    if faults:
        summary = [f"{len(faults):,} of {len(sources):,} files could not be used:"] if len(sources) > 1 else []
        more = [f"and {len(faults) - MOST_FAULTS:,} more"] if len(faults) > MOST_FAULTS else []
        raise UserError("\n  ".join(summary + faults[:MOST_FAULTS] + more))


def _check(options: PredictOptions) -> None:
    """Raises UserError if there is nothing to predict, or nowhere to write, before anything is read."""
    from trainer.common.files import require_writable_file

    if options.out is not None:
        require_writable_file("out", options.out, "predictions.csv")


if __name__ == "__main__":
    cli.run(main)
