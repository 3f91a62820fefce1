"""The valid inputs that are mutated: a contest folder, its packed dataset, a study in all its states, a submission.

Made once, in seconds and without Ray: the study decides and the trainer trains in one process.
"""

import csv
import json
import shutil
from pathlib import Path
from typing import Any, Final
from unittest import mock

from tests.outcomes import metrics_of
from trainer.common.files import locked

CONTEST, PACKED, STUDY, SPACE, SUBMISSION = "asl", "packed", "s", "space.toml", "submission.zip"
SIGNS: Final = 3
LANDMARK_FILES: Final = tuple(f"train_landmark_files/{participant}/{participant}0.parquet" for participant in (1, 2))
"""Those that are mutated"""
SPACE_TEXT: Final = """\
num_heads = 1
num_layers = {type = "int", low = 1, high = 2}
learning_rate = {type = "float", low = 1e-4, high = 1e-2, log = true}
optimizer = {type = "categorical", choices = ["lion", "adamw"]}
weight_decay = {type = "float", low = 1e-3, high = 1.0, log = true, when = {optimizer = "adamw"}}
batch_size = 16
precision = "float32"
max_frames = 32
num_folds = 2
"""
MAX_PARAMS: Final = 300_000
STATES: Final = ("COMPLETE", "COMPLETE", "PRUNED", "FAIL", "RUNNING")
EPOCHS: Final = 2
PLOTLY: Final = "/* plotly */"
"""Stands for the script that every page carries, 5 MB"""


def make(root: Path) -> None:
    """Make all of it in a folder, whole or not at all."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with locked(root.parent):  # another process may be at it
        if not root.exists():
            _make(root)


def _make(root: Path) -> None:
    part = root.with_name(f"{root.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    _make_contest(part)
    _make_packed(part)
    (part / SPACE).write_text(SPACE_TEXT)
    _make_study(part)
    _make_submission(part)
    _place(part, root)
    part.rename(root)


def _make_contest(part: Path) -> None:
    from trainer.synthetic.generate import synthesize

    made, folder = part / "made", part / CONTEST
    synthesize(made, num_signs=SIGNS, num_participants=4, repeats=1, seed=0)
    with (made / "train.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    participants = sorted({line["participant_id"] for line in lines})
    counts = dict.fromkeys(participants, 0)
    for line in lines:
        number = participants.index(line["participant_id"]) + 1
        sequence = f"{number}{counts[line['participant_id']]}"
        path = f"train_landmark_files/{number}/{sequence}.parquet"
        counts[line["participant_id"]] += 1
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (made / line["path"]).rename(folder / path)
        line |= {"path": path, "participant_id": str(number), "sequence_id": sequence}
    with (folder / "train.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    shutil.copy(made / "sign_to_prediction_index_map.json", folder)
    shutil.rmtree(made)


def _make_packed(part: Path) -> None:
    from trainer.data.packing import pack

    pack(part / CONTEST, part / PACKED, workers=1)


def _make_study(part: Path) -> None:
    """Two finished trials, one that was stopped early, one that failed, and one that was cut off after an epoch."""
    from search.decide.study import SearchStudy
    from search.options import SearchOptions
    from search.prepare import new_study
    from search.record.trials import read_rows, write_parquet
    from search.show.report_page import Report, render
    from trainer.learning.loop import train
    from trainer.studydir import REPORT, StudyDir
    from trainer.validation import Validation

    study = StudyDir(part / STUDY)
    study.path.mkdir()
    options = SearchOptions(
        trials=len(STATES), epochs=EPOCHS, data=str(part / PACKED), name=STUDY, results=str(part), pruner="none",
        space=part / SPACE, sampler="random", recipe_points=False, max_params=MAX_PARAMS,
    )  # fmt: skip
    request, dataset = new_study(options, study)
    config = request.to_config()
    study.write_validation(Validation.of(dataset, config.num_folds, config.fold), dataset.sign_names)
    request.write(study)
    deciding = SearchStudy(study, request)
    for number, state in enumerate(STATES):
        assignment = deciding.ask()
        assert assignment is not None

        def report(metrics: Any, number: int = number, state: str = state) -> None:
            deciding.report(number, metrics)
            if state != "COMPLETE":
                raise InterruptedError

        run = deciding.run_dir(number)
        try:
            deciding.complete(number, train(assignment.config, dataset, run, report=report, device="cpu"))
        except InterruptedError:
            if state == "PRUNED":
                deciding.prune(number, metrics_of(1, 0.25))
            elif state == "FAIL":
                deciding.fail(number, "the loss became nan in epoch 1")
    deciding.close()
    write_parquet(read_rows(study.path), study.path)
    with mock.patch("search.show.html.packed_plotly", return_value=PLOTLY):
        (study.path / REPORT).write_text(render(Report.read(study.path)))


def _make_submission(part: Path) -> None:
    from ensemble.tflite import export, submission
    from trainer.data.dataset import PackedDataset
    from trainer.studydir import StudyDir

    run = StudyDir(part / STUDY).trial(0)
    weights = {name: tensor.numpy() for name, tensor in run.read_weights().items()}
    model = export.build([export.Member(run.read_config().model, weights)])
    names = PackedDataset.open(part / PACKED).sign_names
    submission.write(part / SUBMISSION, submission.with_labels(model, names))


def _place(part: Path, root: Path) -> None:
    """Have the study name the dataset where it will stand."""
    path = part / STUDY / "study.json"
    content = json.loads(path.read_text())
    content["data"] = str((root / PACKED).resolve())
    path.write_text(json.dumps(content, indent=2))
