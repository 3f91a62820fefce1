"""submission.zip: writing it, reading it, and predicting with it.

The zip holds model.tflite and nothing else. The names of the signs are inside model.tflite, where TFLite's own metadata
tools put them: labels.txt in a zip appended to the FlatBuffer, which runtimes ignore. ensemble.ship.contract checks
what the contest asks of the file. Nothing here needs torch, except reading selection.json.
"""

import functools
import io
import lzma
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from ensemble.budget import COSTS, Budget, Cost
from ensemble.tflite.runtime import Model
from trainer.common.errors import FieldError, UserError, first_line
from trainer.common.files import special, to_path, write_bytes
from trainer.common.strict import check_type, described
from trainer.data.contest import is_no_name
from trainer.landmarks import NUM_ROWS, ROWS

if TYPE_CHECKING:
    import pandas as pd

MODEL: Final = "model.tflite"
LABELS: Final = "labels.txt"
MOST_BYTES: Final = 2**31 - 1  # a flatbuffer's offsets are of 32 bits, with a sign
BROKEN_ZIP: Final = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(OSError, EOFError, RuntimeError, UnicodeDecodeError),
)
"""What zipfile raises on a file that is damaged, encrypted, or packed in an unknown way"""
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the zip format's first date: equal content makes equal files


def with_labels(model: bytes, label_names: Sequence[str]) -> bytes:
    """The .tflite file with the signs' names, in the order of its outputs, attached: a line each.

    Raises UserError if one does not fit a line.
    """
    if unusable := next(filter(is_no_name, label_names), None):
        words = "has a character that ends a line; rename the sign, pack and search again"
        raise UserError(f"the sign {described(unusable)} {words}", field="studies")
    file = io.BytesIO(model)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(zipfile.ZipInfo(LABELS, _EPOCH), "\n".join(label_names))
    return file.getvalue()


def read_labels(model: bytes) -> list[str] | None:
    """The names attached to a .tflite file, or None if it has none."""
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            text = archive.read(LABELS).decode()
    except (KeyError, *BROKEN_ZIP):
        return None
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def write(path: Path, model: bytes) -> None:
    """Write submission.zip, whole or not at all."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        entry = zipfile.ZipInfo(MODEL, _EPOCH)
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, model, zipfile.ZIP_DEFLATED)
    write_bytes(path, file.getvalue())


def read(path: Path) -> bytes:
    """The .tflite file in a submission.zip, or a .tflite file itself. Raises UserError naming what is wrong."""
    if wrong := special(path):
        raise UserError(f"{path}: {wrong}; give a submission.zip or a .tflite file")
    try:
        if path.suffix == ".tflite":
            _require_size(path, path.stat().st_size)
            return path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            _require_size(path, archive.getinfo(MODEL).file_size)
            return archive.read(MODEL)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; make one with: python -m ensemble.select") from error
    except IsADirectoryError as error:
        inside = sorted(path.glob("*/submission.zip")) or sorted(path.glob("submission.zip"))
        hint = f"give {inside[0]}" if inside else "give a submission.zip or a .tflite file"
        raise UserError(f"{path}: is a folder; {hint}") from error
    except KeyError as error:
        raise UserError(f"{path}: holds no {MODEL}; make one with: python -m ensemble.select") from error
    except BROKEN_ZIP as error:
        raise UserError(f"{path}: cannot be read ({error}); give a submission.zip or a .tflite file") from error


def _cell(value: float) -> str:
    """Counts whole, all else in four digits.

    >>> _cell(354_818.0), _cell(0.17914)
    ('354,818', '0.1791')
    """
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _require_size(path: Path, size: int) -> None:
    """Raise UserError for what is too large to be a model."""
    if size > MOST_BYTES:
        raise UserError(f"{path}: holds {size:,} bytes, more than a .tflite file can have; give another one")


def min_runtime_version(model: bytes) -> tuple[int, ...] | None:
    """The oldest TFLite release that a .tflite file says it needs; None if it names none."""
    from ai_edge_litert import schema_py_generated as schema

    parsed = schema.Model.GetRootAs(model, 0)
    for i in range(parsed.MetadataLength()):
        entry = parsed.Metadata(i)
        if entry.Name() == b"min_runtime_version":
            text = parsed.Buffers(entry.Buffer()).DataAsNumpy().tobytes().rstrip(b"\0").decode()
            parts = text.split(".")
            return tuple(map(int, parts)) if all(map(str.isdecimal, parts)) else None
    return None


_SELECTION: Final[dict[str, Any]] = {
    **{"members": list[dict[str, Any]], "cost": dict[str, float]},
    **{"budget": str | None, "accuracy": dict[str, Any]},
}


def _check_selection(fields: dict[str, Any]) -> None:
    """Raise FieldError if a field of selection.json that is read here is missing, or of another type."""
    for name, hint in _SELECTION.items():
        if name not in fields:
            raise FieldError(f"the field {name!r} is missing")
        check_type(name, fields[name], hint)
    seen, unseen = (fields["accuracy"].get(name) for name in ("seen_by_selection", "unseen_participants"))
    check_type("seen_by_selection", seen, dict[str, Any])
    check_type("seen_by_selection", seen.get("ensemble"), float)
    check_type("unseen_participants", unseen, dict[str, Any] | None)
    check_type("unseen_participants", (unseen or {}).get("ensemble"), float | None)
    try:
        Budget.parse(fields["budget"]) if fields["budget"] else Budget()
    except ValueError as error:
        raise FieldError(str(error), field="budget") from error


@dataclass(frozen=True, repr=False)
class Submission:
    """A submission.zip, or a .tflite file of the same contract, that predicts signs.

    What was found when it was made (members, cost, accuracy, budget) comes from selection.json in the same folder; it
    is None for a file without one.

    >>> submission = Submission.open("results/asl/ensemble/submission.zip")  # doctest: +SKIP
    >>> submission.predict("100015657.parquet").head(3)  # doctest: +SKIP
    """

    path: Path
    content: bytes
    """The .tflite file"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", to_path(self.path, "path"))
        check_type("content", self.content, bytes)

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Raises UserError if the file cannot be read; the model is loaded when it is first used."""
        path = to_path(path, "path")
        return cls(path, read(path))

    @functools.cached_property
    def model(self) -> Model:
        """The loaded file, on one thread. Raises UserError if it is not a TFLite file of the contest's signature."""
        try:
            return Model(self.content)
        except UserError as error:
            raise UserError(f"{self.path}: {error}") from error

    @functools.cached_property
    def label_names(self) -> list[str] | None:
        """The signs, in the order of the file's outputs; None if the file does not hold their names."""
        return read_labels(self.content)

    def predict(self, landmarks: "np.ndarray | Path | str") -> "pd.Series[float]":
        """The probability of each sign, likeliest first, as a Series with the signs as index.

        ``landmarks`` are float [n, 543, 3] with NaN for missing ones, or the path of a parquet file of the contest.
        Without ``label_names`` the index holds the numbers of the outputs. Raises UserError for anything else.
        """
        import pandas as pd

        from trainer.data.landmark_files import BOUND

        if isinstance(landmarks, Path | str):
            from trainer.data.landmark_files import read_raw

            landmarks = read_raw(to_path(landmarks, "landmarks"))
        if isinstance(landmarks, np.ma.MaskedArray):
            landmarks = np.ma.filled(landmarks.astype(np.float32), np.nan)
        try:
            landmarks = np.asarray(landmarks)
        except (TypeError, ValueError) as error:  # such as rows of different lengths
            raise UserError(f"must be numbers ({first_line(error)})", field="landmarks") from error
        if landmarks.dtype.kind not in "fiu":
            raise UserError(f"must be numbers, not {landmarks.dtype}", field="landmarks")
        if landmarks.ndim != 3 or landmarks.shape[1:] != (NUM_ROWS, 3) or not len(landmarks):
            raise UserError(f"must have shape [n, {NUM_ROWS}, 3], not {list(landmarks.shape)}", field="landmarks")
        used = np.abs(landmarks[:, ROWS, :2].astype(np.float64))
        if (used > BOUND).any():  # NaN, which is missing, is not
            raise UserError(
                f"a coordinate is {used[used > BOUND][0]:g}; they must be parts of the image's width and height, 0 to "
                f"1 inside it, not pixels, and at most {BOUND:g} from 0",
                field="landmarks",
            )
        try:
            probs = self.model(landmarks.astype(np.float32, copy=False))
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{self.path}: does not run on these landmarks ({first_line(error)})") from error
        names: list[Any] = self.label_names or list(range(probs.size))
        if probs.ndim != 1 or len(names) != len(probs):
            raise UserError(f"{self.path}: gives values of shape {list(probs.shape)} for {len(names)} signs")
        series = pd.Series(probs, index=pd.Index(names, name="sign"), name="probability")
        return series.sort_values(ascending=False, kind="stable")

    @functools.cached_property
    def _selection(self) -> dict[str, Any] | None:
        """The fields of selection.json, if it is there and was written for this very file.

        Raises UserError if it cannot be read, or lacks a field.
        """
        from trainer.studydir import read_selection, require_as_written

        fields = read_selection(self.path.parent)
        if fields is None:
            return None
        try:
            _check_selection(fields)
        except FieldError as error:
            raise self._fault(str(error)) from error
        require_as_written(self.path.parent, fields, files=())
        if "sha256" in fields:
            return fields if fields["sha256"] == sha256(self.content).hexdigest() else None
        return fields if fields["cost"].get("size") == len(self.content) else None  # as version 0.1 wrote it

    def doubt(self) -> str | None:
        """Why what selection.json beside the file says is not to be believed of it; None if it is, or there is none."""
        from trainer.studydir import SELECTION

        path = self.path.parent / SELECTION
        try:
            is_of_this = not path.exists() or self._selection is not None
        except UserError as error:
            return str(error)
        return (
            None if is_of_this else f"{path}: is of another file than {self.path.name}; its accuracy is not this one's"
        )

    def _fault(self, what: str) -> UserError:
        from trainer.studydir import SELECTION

        return UserError(f"{self.path.parent / SELECTION}: {what}; select again")

    @property
    def members(self) -> "pd.DataFrame | None":
        """One row per member: trial, precision, count, the costs it was selected by, its shape and its accuracy."""
        import pandas as pd

        return None if self._selection is None else pd.DataFrame(self._selection["members"])

    @property
    def cost(self) -> Cost | None:
        """What the file costs, measured, such as ``cost["latency"]`` in milliseconds."""
        if self._selection is None:
            return None
        cost = self._selection["cost"]
        if missing := [name for name in COSTS if name not in cost]:
            raise self._fault(f"cost: has no {missing[0]}")
        return Cost(**{name: cost[name] for name in COSTS})

    @property
    def budget(self) -> Budget | None:
        """The limits that were asked for; without any, ``str(budget)`` is empty."""
        if self._selection is None:
            return None
        return Budget.parse(self._selection["budget"]) if self._selection["budget"] else Budget()

    @property
    def accuracy(self) -> float | None:
        """Accuracy on participants that the selection did not see; None also if there was only one participant."""
        there = self._selection and self._selection["accuracy"]["unseen_participants"]
        return None if not there or there["ensemble"] is None else float(there["ensemble"])

    @property
    def seen_accuracy(self) -> float | None:
        """Accuracy on the labels that members were selected on, which is higher than elsewhere."""
        return None if self._selection is None else float(self._selection["accuracy"]["seen_by_selection"]["ensemble"])

    def _facts(self) -> dict[str, str]:
        signs = "unnamed" if self.label_names is None else str(len(self.label_names))
        facts = {"file": str(self.path), "signs": signs, "size": f"{len(self.content) / 1e6:.2f} MB"}
        try:
            _ = self.cost  # and with it selection.json
        except UserError as error:
            return facts | {"selection": str(error)}
        if self.cost is not None and self.members is not None:
            facts |= {"members": str(len(self.members)), "latency": f"{self.cost['latency']:.2f} ms a sequence"}
            facts["budget"] = str(self.budget) or "none"
        if self.accuracy is not None:
            facts["accuracy on unseen participants"] = f"{self.accuracy:.4f}"
        return facts

    def __repr__(self) -> str:
        return f"Submission({', '.join(f'{name}: {value}' for name, value in self._facts().items())})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the facts, and the members."""
        facts = self._facts()
        rows = (f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
        table = self.members if "members" in facts else None
        members = "" if table is None else table.to_html(index=False, float_format=_cell, border=0)
        return f"<table>{''.join(rows)}</table>{members}"
