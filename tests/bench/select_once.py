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
from pathlib import Path
from typing import Final

import numpy as np

from ensemble.selection import baselines
from ensemble.selection.scores import OBJECTIVES, State

RULES: Final[dict[str, baselines.Rule]] = {
    "ours": baselines.ours,
    "MULTI_GES": baselines.weighted,
    "top-k": baselines.top_k,
    "single": baselines.single,
}


class Matrices(list[Path]):
    """Opens a file when it is asked for, and lets it go after, as ensemble.candidates.pool's ValProbs does."""

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        return np.load(super().__getitem__(index), mmap_mode="r")

    def __iter__(self):  # type: ignore[no-untyped-def]
        return (self[index] for index in range(len(self)))


def main() -> None:
    folder, metric, name = Path(sys.argv[1]), sys.argv[2], next(iter(sys.argv[3:]), "ours")
    matrices, labels = Matrices(sorted(folder.glob("[0-9]*.npy"))), np.load(folder / "labels.npy")
    rounds = 0

    class Counting(OBJECTIVES[metric]):  # type: ignore[misc]
        def additions(self, state: State) -> np.ndarray:
            nonlocal rounds
            rounds += 1
            return super().additions(state)

    began = time.perf_counter()
    objective = Counting.of(matrices, labels)
    ready = time.perf_counter()
    counts = RULES[name](objective, np.ones((len(matrices), 1)), np.full(1, np.inf))
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
