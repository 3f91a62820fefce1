"""One selection without a budget, in a process of its own, so that its memory is its own: for tests.bench.select.

    python -m tests.bench.select_once FOLDER METRIC [RULE]

RULE is one of RULES, ours if none is named. FOLDER holds labels.npy and a memory-mapped matrix float16 [N, signs] for
each candidate. Prints JSON: seconds from the matrices to the counts, the peak of memory in GB (pages of the files that
are mapped at that time included), counts, and how often all candidates were tried as one more member: one round of
AutoGluon's.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, overload

import numpy as np

from ensemble.selection import baselines
from ensemble.selection.scores import SCORES, Score, State

RULES: Final[dict[str, baselines.Rule]] = {
    "ours": baselines.ours,
    "MULTI_GES": baselines.weighted,
    "top-k": baselines.top_k,
    "single": baselines.single,
}


class Matrices(Sequence[np.ndarray]):
    """Opens a file when it is asked for, and lets it go after, as ensemble.candidates.pool's ValProbs does."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> "Matrices": ...

    def __getitem__(self, index: int | slice) -> "np.ndarray | Matrices":
        if isinstance(index, slice):
            return Matrices(self._paths[index])
        matrix: np.ndarray = np.load(self._paths[index], mmap_mode="r")
        return matrix


def main() -> None:
    folder, metric, name = Path(sys.argv[1]), sys.argv[2], next(iter(sys.argv[3:]), "ours")
    matrices, labels = Matrices(sorted(folder.glob("[0-9]*.npy"))), np.load(folder / "labels.npy")
    rounds = 0
    kind = SCORES[metric]
    additions: Callable[..., np.ndarray] = kind.additions

    def counting(self: Any, state: State) -> np.ndarray:
        nonlocal rounds
        rounds += type(self) is kind  # a Blend asks its parts too
        return additions(self, state)

    setattr(kind, "additions", counting)  # noqa: B010
    began = time.perf_counter()
    score: Score = kind.of(matrices, labels)
    ready = time.perf_counter()
    counts = RULES[name](score, np.ones((len(matrices), 1)), np.full(1, np.inf))
    ended = time.perf_counter()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(
        json.dumps(
            {
                "seconds": ended - began,
                "reading_seconds": ready - began,
                "peak_gb": int(status["VmHWM"].split()[0]) * 1024 / 1e9,
                "counts": counts.tolist(),
                "rounds": rounds,
            }
        )
    )


if __name__ == "__main__":
    main()
