"""Which configurations search.refit trains again: the best of a study, or those that an ensemble was selected of."""

from pathlib import Path
from statistics import mean
from typing import Any, Final

from optuna.trial import FrozenTrial

from search.options import RefitOptions
from search.prepare import dataset_of
from search.problem.space import Space
from search.record.consistency import check_database
from search.record.request import Request
from search.record.trials import REPEATED, read_trials, to_rows
from trainer.common.errors import UserError
from trainer.common.storage import is_uri
from trainer.common.strict import described
from trainer.data.dataset import PackedDataset
from trainer.studydir import (
    SELECTION,
    STUDY_JSON,
    Folder,
    StudyDir,
    for_tables,
    read_selection,
    resume_command,
)

MOST_REFITS: Final = 10_000
TOP, SEEDS, EPOCHS = 8, 3, 100


def refit_study(options: RefitOptions) -> tuple[Request, PackedDataset]:
    """What the new study is asked for. Raises UserError at the first fault."""
    study = StudyDir(Folder.open(options.study, for_tables).path)
    asked = Request.read(study)
    if asked.to_config().all_participants:
        raise UserError(f"{options.study}: was trained on all participants; refit the study that it came from")
    dataset = dataset_of(options.data, asked)
    if dataset.fingerprint != asked.data_fingerprint:
        raise UserError(f"{dataset.source}: is not the dataset of {options.study}; give the right one", field="data")
    check_database(study, asked, options.storage, is_copy=is_uri(options.study))
    rotated = options.folds == "all"
    if options.ship_of is None:
        folds = asked.to_config().num_folds if rotated else 0
        points = _best_points(study, options, folds)
        settled = {"epochs": options.epochs or EPOCHS}
    else:
        points = _selected_points(study, asked, options)
        settled = {}
    ranges = {name: _range_of(name, points) for name in REPEATED if name in points[0]}
    source = {name: value for name, value in asked.space.items() if name not in REPEATED} | settled | ranges
    is_whole = options.all_participants or options.ship_of is not None
    fold = 0 if rotated or asked.is_rotated else asked.to_config().fold
    base = asked.to_config().replace(all_participants=is_whole, fold=fold)
    space = Space.from_source(source, base, where=STUDY_JSON, rotated=rotated)
    request = Request.of(
        space=space,
        dataset=dataset,
        trials=len(points),
        seed=asked.seed,
        sampler="random",  # never asked: every trial is given
        pruner="none",
        recipe_points=False,
        points=[{name: value for name, value in point.items() if name in space.distributions} for point in points],
    )
    return request, dataset


def _range_of(name: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    values = [point[name] for point in points]
    return {"type": "int", "low": min(values), "high": max(values)}


def _best_points(study: StudyDir, options: RefitOptions, folds: int) -> list[dict[str, Any]]:
    """The best configurations, each with every seed, and with every fold if there are ``folds`` of them."""
    best = best_params(study.path, options.top or TOP, options.storage)
    seeds = options.seeds or SEEDS
    if (count := len(best) * seeds * max(folds, 1)) > MOST_REFITS:
        each = f"{seeds} x {folds} folds" if folds else f"{seeds}"
        raise UserError(
            f"{len(best)} configurations x {each} are {count:,} trainings; at most {MOST_REFITS:,}", field="seeds"
        )
    repeats = [
        {"seed": seed, **({"fold": fold} if folds else {})} for seed in range(seeds) for fold in range(max(folds, 1))
    ]
    return [{**params, **repeat} for params in best for repeat in repeats]


def best_params(study: Path, top: int, storage: str | None = None) -> list[dict[str, Any]]:
    """Parameters of the ``top`` best configurations among the complete trials, best first, without seeds and folds.

    A configuration that was trained several times counts once, by its mean accuracy. ``storage`` as in ``read_trials``.
    Raises UserError if there are fewer.
    """
    trials = {trial.number: trial for trial in read_trials(study, storage)}
    found: list[dict[str, Any]] = []
    accuracies: list[list[float]] = []
    for row in to_rows(list(trials.values())):
        # their fields do not tell a field's ranges apart, which parameters' names do
        params = {name: value for name, value in trials[row.number].params.items() if name not in REPEATED}
        if row.state != "COMPLETE":
            continue
        if params not in found:
            found.append(params)
            accuracies.append([])
        accuracies[found.index(params)].append(row.val_accuracy or 0.0)
    if not found:
        again = resume_command(str(study))
        raise UserError(f"{study}: no trial is complete; if the search was stopped, go on with: {again}")
    if len(found) < top:
        message = f"{study} has {len(found)} complete configurations; ask for that many or fewer, not {top}"
        raise UserError(message, field="top")
    order = sorted(range(len(found)), key=lambda place: -mean(accuracies[place]))
    return [found[place] for place in order[:top]]


def _selected_points(study: StudyDir, asked: Request, options: RefitOptions) -> list[dict[str, Any]]:
    """The configurations that an ensemble was selected of, with their own seeds."""
    trials = {f"{trial.number:04d}": trial for trial in read_trials(study.path, options.storage)}
    space = asked.to_space()
    points: list[dict[str, Any]] = []
    for name in _members(options):
        if name not in trials:
            raise UserError(
                f"{options.ship_of}: names trial {name}, which {options.study} has not; give the study that the "
                "ensemble was selected from",
                field="ship_of",
            )
        point = _point_of(trials[name], space)
        if point not in points:
            points.append(point)
    return points


def _point_of(trial: FrozenTrial, space: Space) -> dict[str, Any]:
    params = {name: value for name, value in trial.params.items() if name not in REPEATED}
    return {**params, "seed": space.config_of(trial).seed}


def _members(options: RefitOptions) -> list[str]:
    """The names of the trials in a selection.json. Raises UserError if it is none."""
    assert options.ship_of is not None
    path = options.ship_of / SELECTION if options.ship_of.is_dir() else options.ship_of
    content = read_selection(path.parent) if path.name == SELECTION else None
    if content is None:
        raise UserError(f"{path}: there is no such file; give the {SELECTION} of an ensemble", field="ship_of")
    match content:
        case {"members": [_, *_] as members}:
            names = [member.get("trial") if isinstance(member, dict) else None for member in members]
            if all(isinstance(name, str) for name in names):
                return [str(name) for name in names]
    found = described(content.get("members"))
    raise UserError(f"{path}: members: must be the trials of an ensemble, not {found}; run ensemble.select again")
