"""The contest's parquet files into one memory-mappable dataset, once.

A folder becomes a dataset only when its manifest, written last, is there; what an interrupted run left behind is
removed by the next. The result is the same, byte for byte, with any number of workers. Memory does not grow with the
data.
"""

import contextlib
import difflib
import hashlib
import json
import multiprocessing
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.common.console import console, track
from trainer.common.errors import LandmarkFileError, UserError
from trainer.common.fields import shown, to_count
from trainer.common.files import LOCK, atomic_path, locked, require_folder, sha256, to_path, write_json
from trainer.common.processes import pool
from trainer.common.strict import check_type, described, parse_json, read_text
from trainer.data.contest import SIGN_MAP, TRAIN_CSV, Entry, faults, other_than_paths, read_sign_map, read_train_csv
from trainer.data.landmark_files import read_landmarks
from trainer.data.manifest import FORMAT_VERSION, FRAMES, MANIFEST, SEQUENCES, remember
from trainer.data.normalize import normalize
from trainer.landmarks import NUM_LANDMARKS, ROWS

FILES_PER_TASK: Final = 64  # at most 25 MB of frames
FILES_PER_WORKER: Final = 1000  # fewer are read before a further process has begun
MOST_WORKERS: Final = 4  # the one process that writes is then busy
MEND: Final = "mend it, or skip bad sequences (skip_bad)"


class Skipped(NamedTuple):
    """A sequence that was left out, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """What is to be packed, as train.csv and the sign map have it."""

    source: Path
    label_names: tuple[str, ...]
    """index = label"""
    entries: list[Entry]
    skipped: list[Skipped]

    def fingerprint(self) -> str:
        """SHA-256 of all that decides the packed dataset; a file's size stands for its content."""
        digest = hashlib.sha256(json.dumps([FORMAT_VERSION, ROWS, self.label_names, self.skipped]).encode())
        for entry in self.entries:
            path = self.source / entry.path
            digest.update(json.dumps([*entry, path.stat().st_size if path.is_file() else None]).encode())
        return digest.hexdigest()


def pack(
    source: Path | str,
    out: Path | str,
    *,
    signs: Iterable[str] | None = None,
    workers: int | None = 1,
    skip_bad: bool = False,
) -> list[Skipped]:
    """Pack the contest's folder ``source`` into ``out``; returns what was left out, nothing without ``skip_bad``.

    ``workers`` processes read; None is as many as are worth starting. With ``signs``, a list of names, only those are
    packed, and labels count from 0 in the sign map's order.
    Where ``out`` holds the same content already, nothing is done. Raises UserError if ``out`` holds anything else, if
    ``source`` cannot be read, and, without ``skip_bad``, at the first sequence that is not right.

    Example::

        pack("asl-signs", "results/data/greetings", signs=["hello", "bye"], workers=2)
    """
    source, out = to_path(source, "source"), to_path(out, "out")
    workers = None if workers is None else to_count(workers, "workers")
    check_type("skip_bad", skip_bad, bool)
    plan = make_plan(source, signs)
    if plan.skipped and not skip_bad:
        path, reason = plan.skipped[0]
        raise UserError(f"{source / TRAIN_CSV}: {path}: {reason}; {MEND}")
    require_folder(out, "out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _locked(out):
            if (out / MANIFEST).exists():
                return _check_same(plan, out)
            _clear_leftovers(out)
            return _write(plan, out, workers or useful_workers(len(plan.entries)), skip_bad)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error})") from error


def useful_workers(count: int) -> int:
    """Processes that are worth starting to read so many files.

    >>> useful_workers(582)
    1
    """
    return max(1, min(count // FILES_PER_WORKER, MOST_WORKERS, os.cpu_count() or 1))


def make_plan(source: Path, signs: Iterable[str] | None) -> Plan:
    """Decide what to pack and which lines of train.csv are not right. Opens no landmark file."""
    known = read_sign_map(source)
    asked: Any = signs  # from Python anything
    if asked is not None and (isinstance(asked, str) or not isinstance(asked, Iterable) or not (signs := list(asked))):
        raise UserError(f"must be a list of names, such as {[known[0]]}, not {shown(asked)}", field="signs")
    for sign in signs or ():
        if sign not in known:
            whole = {name.split(",")[0]: name for name in known if "," in name} | {name: name for name in known}
            near = difflib.get_close_matches(str(sign), whole, n=1)
            hint = f"; did you mean {described(whole[near[0]])}?" if near else ""
            raise UserError(f"{source / SIGN_MAP} has no sign {described(sign)}{hint}", field="signs")
    label_names = known if signs is None else tuple(name for name in known if name in signs)
    plan = Plan(source, label_names, [], [])
    entries = [entry for entry in read_train_csv(source) if signs is None or entry.sign in signs]
    if differing := other_than_paths(entries):
        console.print(f"warning: {source / TRAIN_CSV}: {differing}", soft_wrap=True, markup=False)
    wrong = {
        place: f"its sign {described(entry.sign)} is not in {SIGN_MAP}"
        for place, entry in enumerate(entries)
        if entry.sign not in known
    }
    right = [place for place in range(len(entries)) if place not in wrong]
    wrong |= {right[place]: reason for place, reason in faults([entries[place] for place in right]).items()}
    for place, entry in enumerate(entries):
        if place in wrong:
            plan.skipped.append(Skipped(entry.path, wrong[place]))
        else:
            plan.entries.append(entry)
    if not plan.entries and not plan.skipped:
        raise UserError(
            f"{source / TRAIN_CSV}: lists no sequence{' of these signs' if signs else ''}; give one that does"
        )
    return plan


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Keep other packers out of a folder, and leave no trace of it there."""
    with locked(out, "another process is packing into it"):
        try:
            yield
        finally:
            (out / LOCK).unlink(missing_ok=True)


def _check_same(plan: Plan, out: Path) -> list[Skipped]:
    """What had been left out of a dataset packed from the same content. Raises UserError if it is not that."""
    try:
        manifest = parse_json(read_text(out / MANIFEST))
        same = manifest["source"] == plan.fingerprint()
        whole = same and all(sha256(out / name) == digest for name, digest in manifest["sha256"].items())
    except (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError):
        same = whole = False
    if not same:
        raise UserError(f"{out}: already holds something else; choose another folder, or remove it")
    if not whole:
        raise UserError(f"{out}: this dataset is damaged; remove it and pack again")
    remember(out)
    console.print(f"{out}: already packed from the same content", soft_wrap=True, markup=False)
    return [Skipped(*item) for item in manifest["skipped"]]


def _clear_leftovers(out: Path) -> None:
    """Remove what an interrupted run left. Raises UserError if anything else is there."""
    ours = {LOCK, FRAMES, SEQUENCES}
    leftovers = list(out.iterdir())
    for path in leftovers:
        if path.name not in ours and not path.name.startswith((f".{FRAMES}.", f".{SEQUENCES}.", f".{MANIFEST}.")):
            raise UserError(f"{out}: not empty, and no packed dataset ({path.name}); choose another folder")
    for path in leftovers:
        if path.name != LOCK:
            path.unlink()


def _write(plan: Plan, out: Path, workers: int, skip_bad: bool) -> list[Skipped]:
    kept: list[Entry] = []
    lengths: list[int] = []
    skipped = list(plan.skipped)
    fingerprint = plan.fingerprint()
    twins = _Twins()
    with (
        atomic_path(out / FRAMES) as temporary,
        temporary.open("wb") as file,
        contextlib.closing(_read_all(plan, workers)) as results,
        contextlib.closing(track(results, len(plan.entries), "packing")) as tracked,
    ):
        _write_header(file, 0)
        for entry, result in zip(plan.entries, tracked, strict=True):
            if isinstance(result, str):
                if not skip_bad:
                    raise UserError(f"{plan.source / entry.path}: {result}; {MEND}")
                skipped.append(Skipped(entry.path, result))
                continue
            kept.append(entry)
            lengths.append(len(result))
            twins.see(entry, result)
            file.write(result.data)
        if not kept:
            raise UserError(f"{plan.source}: not one sequence is right; the first: {': '.join(skipped[0])}")
        _write_header(file, sum(lengths))
    twins.warn(plan.source)
    _write_sequences(out / SEQUENCES, plan, kept, lengths)
    manifest = {
        "format_version": FORMAT_VERSION,
        "num_sequences": len(kept),
        "num_frames": sum(lengths),
        "num_participants": len({entry.participant_id for entry in kept}),
        "label_names": plan.label_names,
        "landmark_ids": ROWS,
        "sha256": {name: sha256(out / name) for name in (FRAMES, SEQUENCES)},
        "source": fingerprint,
        "skipped": skipped,
    }
    write_json(out / MANIFEST, manifest)
    remember(out)
    return skipped


class _Twins:
    """Files that hold the same frames as an earlier one."""

    def __init__(self) -> None:
        self._first: dict[bytes, Entry] = {}
        self._found: list[tuple[Entry, Entry]] = []

    def see(self, entry: Entry, frames: np.ndarray) -> None:
        digest = hashlib.blake2b(frames.data, digest_size=16).digest()
        if (first := self._first.setdefault(digest, entry)) is not entry:
            self._found.append((entry, first))

    def warn(self, source: Path) -> None:
        """Say how many there are, first those of two participants: one may be trained on, the other held out."""
        across = [pair for pair in self._found if len({entry.participant_id for entry in pair}) > 1]
        for pairs, of_whom in ((across, ", under another participant"), (self._found, "")):
            if pairs:
                entry, first = pairs[0]
                files = "1 file has" if len(pairs) == 1 else f"{len(pairs):,} files have"
                console.print(
                    f"warning: {source}: {files} the same frames as another{of_whom}, such as {entry.path} and "
                    f"{first.path}; remove one of each from {TRAIN_CSV}",
                    soft_wrap=True,
                    markup=False,
                )
                return


def _write_header(file: BinaryIO, num_frames: int) -> None:
    """Write the npy header at the file's start; numpy pads it so that its size is the same for any number of frames."""
    file.seek(0)
    shape = (num_frames, NUM_LANDMARKS, 2)
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})


def _write_sequences(path: Path, plan: Plan, entries: list[Entry], lengths: list[int]) -> None:
    label_of = {name: label for label, name in enumerate(plan.label_names)}
    stops = np.cumsum(lengths, dtype=np.int64)
    table = pa.table(
        {
            "sequence_id": pa.array([entry.sequence_id for entry in entries], pa.int64()),
            "participant_id": pa.array([entry.participant_id for entry in entries], pa.int64()),
            "sign": pa.array([entry.sign for entry in entries], pa.string()),
            "label": pa.array([label_of[entry.sign] for entry in entries], pa.int64()),
            "start": pa.array(stops - lengths, pa.int64()),
            "length": pa.array(lengths, pa.int64()),
        }
    )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def _read_all(plan: Plan, workers: int) -> Generator[np.ndarray | str, None, None]:
    """Normalised frames of every entry, in order, or what is wrong with it. A few tasks are ahead of the reader."""
    entries = plan.entries
    tasks = [entries[first : first + FILES_PER_TASK] for first in range(0, len(entries), FILES_PER_TASK)]
    workers = min(workers, len(tasks))
    if workers <= 1:
        yield from (_read(plan.source / entry.path) for entry in entries)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["trainer.data.packing", "trainer.common.jit"]
    )  # what takes long to import, once for all
    pending: deque[Future[list[np.ndarray | str]]] = deque()
    with pool(workers, context) as executor:
        try:
            for task in tasks:
                pending.append(executor.submit(_read_task, plan.source, task))
                if len(pending) > 2 * workers:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        except BrokenProcessPool as error:
            raise UserError("a worker process died, perhaps for want of memory; try fewer", field="workers") from error


def _read_task(source: Path, entries: list[Entry]) -> list[np.ndarray | str]:
    return [_read(source / entry.path) for entry in entries]


def _read(path: Path) -> np.ndarray | str:
    """Normalised frames of one file: float32 [n, 85, 2]; or what is wrong with it."""
    try:
        return normalize(read_landmarks(path))
    except LandmarkFileError as error:
        return str(error)
