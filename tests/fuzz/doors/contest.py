"""The contest's folder, into trainer.pack and ensemble.predict.

Right is what each row says that it is: a reader of one's own, slow and plain, finds every landmark by its columns
frame, type and landmark_index, and every sequence by the names of train.csv's columns.
"""

import contextlib
import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzz.attempt import Verdict, judge, run
from tests.fuzz.doors import Door, Try, link_tree
from tests.fuzz.valid import CONTEST, LANDMARK_FILES, SUBMISSION

SIGN_MAP: Final = "sign_to_prediction_index_map.json"
_SIZES: Final = {"face": (0, 468), "left_hand": (468, 21), "pose": (489, 33), "right_hand": (522, 21)}
_LANDMARKS: Final = {f"{CONTEST}/{name}": ("parquet", "bytes") for name in LANDMARK_FILES}
_TRAIN_CSV: Final = {f"{CONTEST}/train.csv": ("csv", "bytes")}
_SIGN_MAP: Final = {f"{CONTEST}/{SIGN_MAP}": ("json", "bytes")}
NUM_ROWS: Final = 543
WIDEST: Final = 1e3
"""No image is wider, in image widths"""


def lay(valid: Path) -> None:
    link_tree(valid / CONTEST, Path(CONTEST))
    shutil.copy(valid / SUBMISSION, ".")


def read_by_columns(path: Path) -> list[np.ndarray]:
    """Landmarks float32 [n, 543, 3] as the columns say, of the frames as they stand and in the order of their numbers.

    Empty if the columns do not say it. Without the columns type and landmark_index, rows are in the contest's order.
    """
    try:
        if not {"type", "landmark_index"} & (names := {*pq.read_schema(path).names}):
            table = pq.read_table(path, columns=["x", "y", *({"frame"} & names)])
            rows, order = np.arange(len(table)) % NUM_ROWS, np.arange(len(table))
            numbers = table["frame"].to_numpy().astype(np.int64) if "frame" in names else order // NUM_ROWS
            order = np.argsort(numbers, kind="stable")
            return _frames(rows[order], _points(table)[order], numbers[order])
        table = pq.read_table(path, columns=["type", "landmark_index", "x", "y"])
        kinds = table["type"].combine_chunks().cast("string").dictionary_encode()
        first, size = np.array([_SIZES[kind] for kind in kinds.dictionary.to_pylist()]).T
        indices = table["landmark_index"].to_numpy().astype(np.int64)
        codes = kinds.indices.to_numpy()
        if (indices < 0).any() or (indices >= size[codes]).any():
            return []
        rows, points = first[codes] + indices, _points(table)
    except Exception:
        return []
    found = _frames(rows, points, np.arange(len(rows)) // NUM_ROWS)
    with contextlib.suppress(Exception):  # frames without a number are in their order
        numbers = pq.read_table(path, columns=["frame"])["frame"].to_numpy().astype(np.int64)
        order = np.argsort(numbers, kind="stable")
        found += _frames(rows[order], points[order], numbers[order])
    return found


def _points(table: pa.Table) -> np.ndarray:
    """Coordinates of rows, float64 [n, 3], of which z is NaN."""
    points = np.full((len(table), 3), np.nan)
    for axis, name in enumerate("xy"):
        points[:, axis] = table[name].to_numpy().astype(np.float64)
    return points


def _frames(rows: np.ndarray, points: np.ndarray, numbers: np.ndarray) -> list[np.ndarray]:
    """The frames of rows that stand frame by frame; none if one has not each landmark once."""
    if not len(rows) or len(rows) % NUM_ROWS:
        return []
    blocks, numbers = rows.reshape(-1, NUM_ROWS), numbers.reshape(-1, NUM_ROWS)
    if not (np.sort(blocks, axis=1) == np.arange(NUM_ROWS)).all() or (numbers != numbers[:, :1]).any():
        return []
    raw = np.empty((len(blocks), NUM_ROWS, 3), np.float32)
    with np.errstate(all="ignore"):
        for frame, block in enumerate(blocks):
            raw[frame, block] = points[frame * NUM_ROWS : (frame + 1) * NUM_ROWS]
    return [raw]


def expected_entries(folder: Path) -> list[dict[str, str]]:
    """The lines of train.csv."""
    text = (folder / "train.csv").read_bytes().decode().lstrip("\ufeff")
    lines = list(csv.DictReader(io.StringIO(text)))
    return [line for line in lines if any(line.values())]


def wrong_pack(attempt: Try, out: Path = Path("out")) -> str:
    """What is wrong with a dataset that was packed from the working folder, or nothing."""
    from trainer.common.files import sha256
    from trainer.data.dataset import PackedDataset
    from trainer.data.normalize import normalize, pick_landmarks

    dataset = PackedDataset.open(out)
    manifest = json.loads((out / "manifest.json").read_text())
    if any(sha256(out / name) != digest for name, digest in manifest["sha256"].items()):
        return "manifest.json has another SHA-256 than its files"
    if not np.isfinite(dataset.frames).all() or np.abs(dataset.frames).max() > WIDEST:
        return f"frames of up to {np.abs(dataset.frames).max():.3g}"
    ends = np.cumsum(dataset.lengths)
    if ends[-1] != len(dataset.frames) or (dataset.starts != ends - dataset.lengths).any() or dataset.lengths.min() < 1:
        return "lengths that do not add up to the frames"
    memory = attempt.memory.setdefault("frames", {})
    for path, entry in _entries(attempt, dataset):
        if isinstance(path, str):
            return path
        index = entry
        sequence = dataset.sequence(index)
        changed = str(path) in attempt.changed
        if not changed and str(path) in memory:
            if not np.array_equal(memory[str(path)], sequence):
                return f"{path} was not changed, but its frames were"
            continue
        readings = [normalize(pick_landmarks(raw)) for raw in read_by_columns(path)]
        if not any(
            np.allclose(reading, sequence, atol=1e-5) for reading in readings if reading.shape == sequence.shape
        ):
            return f"{path}: other frames than its columns say"
        if not changed:
            memory[str(path)] = np.array(sequence)
    return ""


def _entries(attempt: Try, dataset: Any) -> list[tuple[Any, Any]]:
    """Path and place in the dataset of every line; or words for what is wrong."""
    folder = Path(CONTEST)
    readings = []
    with contextlib.suppress(Exception):
        readings.append(expected_entries(folder))
    if _changes_train_csv(attempt):
        readings.append(expected_entries(attempt.valid / CONTEST))  # as where it is written in another way
    found = ""
    for lines in readings:
        try:
            ids = [int(line["sequence_id"]) for line in lines]
            same = (
                ids == dataset.sequence_ids.tolist()
                and [int(float(line["participant_id"])) for line in lines] == dataset.participants.tolist()
                and [line["sign"] for line in lines] == [dataset.sign_names[label] for label in dataset.labels]
            )
        except (KeyError, ValueError, TypeError) as error:
            found = f"train.csv cannot be read so ({type(error).__name__})"
            continue
        if same:
            return [(folder / Path(line["path"]), index) for index, line in enumerate(lines)]
        found = "other sequences, participants or signs than train.csv has"
    return [(found, None)]


def _pack(attempt: Try, *more: str) -> Verdict:
    shutil.rmtree("out", ignore_errors=True)
    ran = run("trainer.pack", CONTEST, "out", "--workers", 1, *more)
    files = (
        [] if _changes_train_csv(attempt) else [SIGN_MAP, "train.csv", *(Path(name).name for name in LANDMARK_FILES)]
    )
    return judge(ran, lambda: wrong_pack(attempt), names=[*attempt.names, *_paths(attempt)], files=files)


def _paths(attempt: Try) -> list[str]:
    """What a refusal may also name where train.csv names files that are not there."""
    return ["landmark_files", ".parquet", "no such file", "could not be used"] if _changes_train_csv(attempt) else []


def _changes_train_csv(attempt: Try) -> bool:
    return any(name.endswith("train.csv") for name in attempt.changed)


def _predict(attempt: Try, path: str) -> Verdict:
    ran = run("ensemble.predict", SUBMISSION, path)
    files = ["train.csv", *(Path(name).name for name in LANDMARK_FILES)]
    return judge(ran, lambda: wrong_prediction(ran.stdout, Path(path)), names=attempt.names, files=files)


def wrong_prediction(stdout: str, path: Path) -> str:
    """What is wrong with the line printed for a landmark file, or nothing."""
    from ensemble.tflite.submission import Submission

    submission = Submission.open(SUBMISSION)
    lines = [line for line in stdout.splitlines() if line.startswith(str(path))]
    if len(lines) != 1:
        return f"{len(lines)} lines for {path}"
    names = submission.label_names or []
    signs = [text.rpartition(" ") for text in lines[0].split("\t")[1:]]
    probs = [float(prob) for _, _, prob in signs]
    if (
        probs != sorted(probs, reverse=True)
        or not 0.99 < sum(probs) < 1.01
        or {name for name, _, _ in signs} != {*names}
    ):
        return f"signs and probabilities that cannot be: {lines[0]}"
    for raw in read_by_columns(path):
        model = submission.model(raw)
        if all(abs(model[names.index(name)] - float(prob)) < 2e-3 for name, _, prob in signs):
            return ""
    return "other signs than its columns say"


def _has_depths(path: Path) -> bool:
    """Whether a file has the column z as a submission needs it, and trainer.pack does not: there, and readable."""
    try:
        return bool(pa.types.is_floating(pq.read_table(path, columns=["z"])["z"].type))
    except Exception:  # twice, not there, or with a page that is damaged
        return False


def try_landmarks(attempt: Try) -> list[Verdict]:
    verdicts = [_pack(attempt)]
    names = list(dict.fromkeys(attempt.changed or _LANDMARKS))
    verdicts.extend(_predict(attempt, name) for name in names)
    refused = [name for name, verdict in zip(names, verdicts[1:], strict=True) if verdict.outcome == "refused"]
    if verdicts[0].outcome == "accepted" and any(map(_has_depths, map(Path, refused))):
        words = "trainer.pack takes what ensemble.predict refuses"
        verdicts.append(Verdict("wrong success", words, words))
    return verdicts


def try_train_csv(attempt: Try) -> list[Verdict]:
    verdicts = [_pack(attempt)]
    ran = run("ensemble.predict", SUBMISSION, CONTEST, "--out", "predictions.csv")
    verdicts.append(
        judge(ran, lambda: _wrong_predictions(attempt), names=["train.csv", *_paths(attempt)], files=[], most=20)
    )
    return verdicts


def _wrong_predictions(attempt: Try) -> str:
    """What is wrong with predictions.csv: one line for each of train.csv's, as for the valid folder."""
    with Path("predictions.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    found = {line["path"]: (line["sign"], line["probability"]) for line in lines}
    expected = attempt.memory.setdefault("predictions", found)
    wrong = [path for path, prediction in found.items() if expected.get(path, prediction) != prediction]
    return f"{wrong[0]}: another prediction than before" if wrong else ""


def try_sign_map(attempt: Try) -> list[Verdict]:
    verdict = _pack(attempt)
    if verdict.outcome != "accepted":
        return [verdict]
    from trainer.data.dataset import PackedDataset

    names = PackedDataset.open("out").sign_names
    readings = []
    for folder in (Path(CONTEST), attempt.valid / CONTEST):
        with contextlib.suppress(Exception):
            content = json.loads((folder / SIGN_MAP).read_bytes().decode("utf-8-sig"))
            readings.append(tuple(sorted(content, key=content.__getitem__)))
    if names not in readings:
        return [Verdict("wrong success", f"trainer.pack: other signs than the map has: {names}", "signs")]
    return [verdict]


DOORS: Final = (
    Door("landmark file", 24, _LANDMARKS, lay, try_landmarks),
    Door("train.csv", 12, _TRAIN_CSV, lay, try_train_csv),
    Door("sign map", 6, _SIGN_MAP, lay, try_sign_map),
)
