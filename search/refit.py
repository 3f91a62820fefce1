"""Train the best configurations of a study at full length, with several seeds, into a study of its own.

    python -m search.refit results/STUDY --top 8 --seeds 3 --epochs 100
    python -m search.refit results/STUDY --top 8 --seeds 3 --epochs 100 --all-participants

The first writes results/STUDY-refit, which everything reads as any other study; interrupted, it goes on with
search.run --resume. The second, results/STUDY-refit-all, holds nobody out, so that nothing can be selected from it: its
weights are for ensemble.select --ship, in place of those of the members that were selected from the first.
"""

import argparse
from pathlib import Path
from typing import Any, Final

from search.options import add_ray_options
from search.problem.space import Space
from search.record.request import STUDY_JSON, Settings
from search.run import carry_out, check_name, is_study, resume_command
from search.table import read_trials, to_rows
from trainer.common import cli
from trainer.common.errors import UserError
from trainer.common.fields import positive
from trainer.common.storage import base_name, is_uri, join, parent
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.studydir import Folder

DEFAULT_TOP: Final = 8
DEFAULT_SEEDS: Final = 3
DEFAULT_EPOCHS: Final = 100


def best_params(study: Path, top: int, storage: str | None = None) -> list[dict[str, Any]]:
    """Parameters of the ``top`` best configurations among the complete trials, best first, without their seeds.

    ``storage`` as in ``read_trials``. Raises UserError if there are fewer.
    """
    found: list[dict[str, Any]] = []
    trials = read_trials(study, storage)
    for row in to_rows(trials):  # whose fields do not tell a field's ranges apart, which parameters' names do
        params = {name: value for name, value in trials[row.number].params.items() if name != "seed"}
        if row.state == "COMPLETE" and params not in found:
            found.append(params)
    if len(found) < top:
        raise UserError(f"--top {top}: {study} has {len(found)} complete configurations; ask for that many or fewer")
    return found[:top]


def prepare(options: argparse.Namespace, _: Path) -> tuple[Settings, PackedDataset]:
    """What the new study is asked for. Raises UserError at the first fault."""
    study = Folder.open(options.study).path
    asked = Settings.read(study)
    if TrainConfig.from_json(asked.base_config).all_participants:
        raise UserError(f"{options.study}: was trained on all participants; refit the study that it came from")
    best = best_params(study, options.top, options.source_storage)
    points = [{**params, "seed": seed} for params in best for seed in range(options.seeds)]
    dataset = PackedDataset.open(options.data or asked.data)
    if dataset.fingerprint != asked.data_fingerprint:
        raise UserError(f"{dataset.source}: is not the dataset of {options.study}; give the right one with --data")
    seeds = {"type": "int", "low": 0, "high": options.seeds - 1}
    base = TrainConfig.from_json({**asked.base_config, "all_participants": options.all_participants})
    space = Space.from_source(asked.space | {"epochs": options.epochs, "seed": seeds}, base, where=STUDY_JSON)
    settings = Settings.make(
        space=space,
        dataset=dataset,
        trials=len(points),
        seed=asked.seed,
        sampler="random",  # never asked: every trial is given
        pruner="none",
        seed_points=False,
        points=points,
    )
    return settings, dataset


def _parse() -> argparse.Namespace:
    parser = cli.Parser("search.refit", description="Train the best configurations of a study at full length.")
    add = parser.add_argument
    add("study", help="directory of the study, such as results/STUDY, or its URI")
    add(
        "--top",
        type=cli.readable(positive),
        default=DEFAULT_TOP,
        help=f"configurations, best first (default: {DEFAULT_TOP})",
    )
    add(
        "--seeds",
        type=cli.readable(positive),
        default=DEFAULT_SEEDS,
        help=f"trainings of each (default: {DEFAULT_SEEDS})",
    )
    add(
        "--epochs",
        type=cli.readable(positive),
        default=DEFAULT_EPOCHS,
        help=f"of every training (default: {DEFAULT_EPOCHS})",
    )
    add("--all-participants", action="store_true", help="hold nobody out: weights to ship, not to select by")
    add("--name", help="of the new study, beside the old one (default: STUDY-refit, or STUDY-refit-all)")
    add("--data", help="packed dataset (default: where it lay when the study was made)")
    add("--storage", dest="source_storage", help="URL of the old study's database, if that has a password")
    add_ray_options(parser)
    parser.set_defaults(storage=None)  # of the new study: study.db
    return parser.parse_args()


def main() -> None:
    options = _parse()
    suffix = "-refit-all" if options.all_participants else "-refit"
    study = options.study if is_uri(options.study) else str(Path(options.study).resolve())
    name = base_name(study) + suffix if options.name is None else options.name
    check_name(name)
    shown = join(parent(options.study), name)
    if is_study(shown):
        again = resume_command(shown, options)
        raise UserError(f"{shown}: there is a study of this name; choose another --name, or go on with: {again}")
    carry_out(shown, prepare, options)


if __name__ == "__main__":
    cli.run(main)
