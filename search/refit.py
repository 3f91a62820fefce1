"""Train the best configurations of a study at full length, with several seeds, as a study of its own.

python -m search.refit results/STUDY --top 8 --seeds 3 --epochs 100
python -m search.refit results/STUDY --top 8 --seeds 3 --epochs 100 --all-participants
"""

import dataclasses
from pathlib import Path

from search.options import RefitOptions, RunOptions, SearchOptions
from trainer.common import cli
from trainer.common.cli import command
from trainer.common.errors import UserError


@command(
    "search.refit",
    RefitOptions,
    examples=[
        "results/asl --top 8 --seeds 3 --epochs 100",
        "results/asl --top 8 --seeds 3 --epochs 100 --all-participants",
    ],
)
def main(options: RefitOptions) -> None:
    from search.ending import resumable, resume_command, show_outcome
    from search.execute.driver import carry_out, check_name, is_study
    from search.prepare import refit_study
    from trainer.common.storage import base_name, is_uri, join, parent

    study = options.study if is_uri(options.study) else str(Path(options.study).resolve())
    suffix = "-refit-all" if options.all_participants else "-refit"
    name = base_name(study) + suffix if options.name is None else options.name
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
