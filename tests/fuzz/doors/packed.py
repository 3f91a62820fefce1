"""A packed dataset, into trainer.train.

Right is what the valid dataset gives, to the bit: one that was changed after packing is not what its manifest says.
"""

import shutil
from pathlib import Path
from typing import Final

from tests.fuzz.attempt import Verdict, judge, run
from tests.fuzz.doors import Door, Try, link_tree
from tests.fuzz.valid import PACKED

FILES: Final = {
    f"{PACKED}/frames.npy": ("npy", "bytes"),
    f"{PACKED}/sequences.parquet": ("parquet", "bytes"),
    f"{PACKED}/manifest.json": ("json", "bytes"),
}
NAMES: Final = [Path(name).name for name in FILES]


def lay(valid: Path) -> None:
    link_tree(valid / PACKED, Path(PACKED))


def try_packed(attempt: Try) -> list[Verdict]:
    shutil.rmtree("run", ignore_errors=True)
    model = ("--num-heads", 1, "--num-layers", 1, "--max-frames", 32)
    how = ("--epochs", 1, "--batch-size", 16, "--num-folds", 2, "--precision", "float32", "--threads", 1)
    ran = run("trainer.train", "--data", PACKED, "--out", "run", *model, *how)
    verdict = judge(ran, lambda: _wrong_run(attempt), names=[*attempt.names, PACKED], files=NAMES)
    if verdict.outcome == "refused" and Path("run", "metrics.jsonl").exists():
        return [Verdict("wrong success", f"refused, but only after training: {ran.stderr[:300]}", "after training")]
    return [verdict]


def _wrong_run(attempt: Try) -> str:
    weights = Path("run", "weights.safetensors").read_bytes()
    probs = Path("run", "val_probs.npy").read_bytes()
    expected = attempt.memory.setdefault("run", (weights, probs))
    return "" if (weights, probs) == expected else "trained on something else than was packed"


DOORS: Final = (Door("packed dataset", 14, FILES, lay, try_packed),)
