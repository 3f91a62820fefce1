"""Train the best configurations of a study at full length, with several seeds, as a study of its own.

python -m search.refit results/STUDY --top 8 --seeds 3 --epochs 100
python -m search.refit results/STUDY --top 8 --seeds 3 --epochs 100 --folds all
python -m search.refit results/STUDY-folds --ship-of results/STUDY-folds/ensemble/selection.json
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from search.options import RefitOptions, RunOptions, SearchOptions
from trainer.common import cli
from trainer.common.cli import command

if TYPE_CHECKING:  # a command's help need not wait for rich
    from search.show.starting import Starting


@command(
    "search.refit",
    RefitOptions,
    examples=[
        "results/asl --top 8 --seeds 3 --epochs 100",
        "results/asl --top 8 --seeds 2 --epochs 100 --folds all",
        "results/asl-folds --ship-of results/asl-folds/ensemble/selection.json",
    ],
)
def main(options: RefitOptions) -> None:
    from search.show.starting import LOADING, Starting

    with Starting() as starting:
        starting.say(LOADING)
        _refit(options, starting)


def _refit(options: RefitOptions, starting: "Starting") -> None:
    from search.ending import require_new, resumable, show_outcome
    from search.execute.driver import carry_out, check_name
    from search.repeats import refit_study
    from trainer.common.storage import base_name, is_uri, join, parent

    study = options.study if is_uri(options.study) else str(Path(options.study).resolve())
    name = base_name(study) + options.suffix if options.name is None else options.name
    check_name(name)
    where = join(parent(options.study), name)
    given = {item.name: getattr(options, item.name) for item in dataclasses.fields(RunOptions)}
    to_resume = SearchOptions(name=name, results=parent(options.study), **given)
    require_new(where, to_resume)
    with resumable(to_resume):
        outcome = carry_out(where, lambda _: refit_study(options), options, starting=starting)
    show_outcome(outcome, to_resume)


if __name__ == "__main__":
    cli.run(main)
