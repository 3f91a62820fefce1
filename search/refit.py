"""Train the best configurations of a study at full length, with several seeds, into a study of its own.

python -m search.refit results/STUDY --top 8 --seeds 3 --epochs 100
python -m search.refit results/STUDY --top 8 --seeds 3 --epochs 100 --all-participants
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from search.options import RunOptions
from trainer.common import cli
from trainer.common.cli import command
from trainer.common.errors import UserError
from trainer.common.fields import option, positive


@dataclass(frozen=True, kw_only=True)
class RefitOptions(RunOptions):
    """Train the best configurations of a study again: at full length, each with several seeds.

    They become a study of their own, beside the old one, which everything reads as any other. Interrupted, it is
    resumed by search.run --resume. With --all-participants nobody is held out: nothing can be selected from such a
    study, but ensemble.select --ship takes its weights in place of those of the same members that were selected from
    the held-out refits."""

    study: str = option(positional=True)
    """Folder of the study, such as results/STUDY, or its URI."""
    top: int = option(8, parse=positive)
    """Configurations to train, best first."""
    seeds: int = option(3, parse=positive)
    """Trainings of each configuration."""
    epochs: int = option(100, parse=positive)
    """Epochs of each training."""
    all_participants: bool = option(False)
    """Hold nobody out: weights to ship, not to select by."""
    name: str | None = option(None)
    """Name of the new study; default: STUDY-refit, or STUDY-refit-all."""
    data: str | None = option(None, metavar="FOLDER")
    """Packed dataset: a folder or a URI; default: where it lay when the study was made."""
    storage: str | None = option(None, metavar="URL")
    """Database of the old study, needed only if its URL has a password."""


@command(
    "search.refit",
    RefitOptions,
    examples=[
        "results/asl --top 8 --seeds 3 --epochs 100",
        "results/asl --top 8 --seeds 3 --epochs 100 --all-participants",
    ],
)
def main(options: RefitOptions) -> None:
    from search.execute.driver import carry_out, check_name, is_study
    from search.options import SearchOptions
    from search.prepare import refit_study
    from search.show.ending import resumable, resume_command, show_outcome
    from trainer.common.storage import base_name, is_uri, join, parent

    study = options.study if is_uri(options.study) else str(Path(options.study).resolve())
    name = options.name or base_name(study) + ("-refit-all" if options.all_participants else "-refit")
    check_name(name)
    where = join(parent(options.study), name)
    given = {item.name: getattr(options, item.name) for item in dataclasses.fields(RunOptions)}
    to_resume = SearchOptions(name=name, results=parent(options.study), **given)
    if is_study(where):
        again = resume_command(to_resume)
        raise UserError(f"{where}: there is a study of this name; choose another --name, or go on with: {again}")
    with resumable(to_resume):
        outcome = carry_out(where, lambda _: refit_study(options), options)
    show_outcome(outcome, to_resume)


if __name__ == "__main__":
    cli.run(main)
