"""The oldest TFLite runtimes that pip still installs, against the runtime that everything here is measured on.

    python -m tests.bench.old_runtime [submission.zip]

tflite-runtime 2.9.1, which the contest had, and 2.7.0, the oldest, go into environments of their own, of a Python 3.7
to 3.9 found on the path or under ~/.pyenv. Both sides run the same sequences; with no submission, random models of
every kind at every precision. The last line is JSON.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.ship.contract import FEW_LENGTHS, contest_lengths
from ensemble.tflite import export, submission
from ensemble.tflite.runtime import Model
from tests.ensemble.conftest import random_classifier
from trainer.config import ModelConfig
from trainer.landmarks import FACE_ROWS, LEFT_HAND_ROWS, NUM_ROWS, RIGHT_HAND_ROWS

VERSIONS = ("2.7.0", "2.9.1")
PYTHONS = ("3.9", "3.8", "3.7")

# What runs there: a model, sequences end to end with their lengths -> outputs and seconds a sequence.
RUNNER = """
import sys, time
import numpy as np
from tflite_runtime.interpreter import Interpreter
model, given, out = sys.argv[1:]
data = np.load(given)
interpreter = Interpreter(model_path=model, num_threads=1)
run = interpreter.get_signature_runner("serving_default")
outputs, seconds = [], []
for frames in np.split(data["frames"], np.cumsum(data["lengths"])[:-1]):
    began = time.perf_counter()
    outputs.append(run(inputs=frames)["outputs"])
    seconds.append(time.perf_counter() - began)
np.savez(out, outputs=np.stack(outputs), seconds=seconds)
"""


class NotInstallableError(Exception):
    """An old runtime cannot be had here; the message says why."""


def install(version: str, folder: Path) -> Path:
    """The python of a new environment that has a tflite-runtime. Raises NotInstallableError."""
    reasons = []
    for python in _pythons():
        try:
            subprocess.run([python, "-m", "venv", folder], check=True, capture_output=True, text=True)
            options = ("install", "--quiet", "--disable-pip-version-check")
            pip = [str(folder / "bin" / "python"), "-m", "pip", *options]
            subprocess.run(
                [*pip, f"tflite-runtime=={version}", "numpy<2"], check=True, capture_output=True, text=True, timeout=240
            )
        except (OSError, subprocess.SubprocessError) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            reasons.append(f"{python}: {said[-1]}")
            shutil.rmtree(folder, ignore_errors=True)
        else:
            return folder / "bin" / "python"
    raise NotInstallableError(f"tflite-runtime {version}: {'; '.join(reasons) or 'no Python 3.7 to 3.9 here'}")


def _pythons() -> Iterator[str]:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for version in PYTHONS:
        yield from map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python")))
        if (found := shutil.which(f"python{version}")) and "shims" not in found:
            yield found


def sequences(lengths: list[int]) -> list[np.ndarray]:
    """Random landmarks float32 [n, 543, 3]; of some sequences face, hands or everything is missing."""
    rng = np.random.default_rng(0)
    missing = itertools.cycle([(), FACE_ROWS, LEFT_HAND_ROWS, LEFT_HAND_ROWS + RIGHT_HAND_ROWS, tuple(range(NUM_ROWS))])
    made = []
    for length, rows in zip(lengths, missing, strict=False):
        frames = rng.normal(0.5, 0.3, (length, NUM_ROWS, 3)).astype(np.float32)
        frames[:, list(rows)] = np.nan
        made.append(frames)
    return made


def run_old(python: Path, content: bytes, given: list[np.ndarray]) -> tuple[np.ndarray, float]:
    """Outputs float32 [N, signs] of a .tflite file on that runtime, and milliseconds a sequence."""
    with tempfile.TemporaryDirectory() as work:
        model, inputs, out = (Path(work) / name for name in ("model.tflite", "inputs.npz", "outputs.npz"))
        model.write_bytes(content)
        np.savez(inputs, frames=np.concatenate(given), lengths=[len(frames) for frames in given])
        subprocess.run(
            [python, "-c", RUNNER, model, inputs, out], check=True, capture_output=True, text=True, timeout=240
        )
        with np.load(out) as found:
            return found["outputs"], 1e3 * float(found["seconds"].mean())


def random_models() -> dict[str, bytes]:
    """A file of every precision, and one for every option that changes the graph."""
    shape = ModelConfig(num_heads=2, num_layers=2, num_signs=9)
    options: dict[str, dict[str, Any]] = {
        "layernorm, mean pooling": {"norm": "layernorm", "pooling": "mean"},
        "hands and lips, no positions": {"landmarks": "hands_lips", "learned_positions": False, "rotary": False},
        "convolution": {"conv_kernel": 5},
        "motion, distances, hands": {"motion": 2, "distances": True, "hand_frame": True},
    }
    configs = {"": shape} | {f", {name}": ModelConfig(num_signs=9, **some) for name, some in options.items()}
    files = {}
    for (name, config), precision in itertools.product(configs.items(), export.PRECISIONS):
        weights = {key: weight.numpy() for key, weight in random_classifier(config).state_dict().items()}
        files[f"{precision}{name}"] = export.build([export.Member(config, weights, 1, precision)])
    return files


def compare(python: Path, content: bytes, given: list[np.ndarray]) -> dict[str, float]:
    """Largest difference between the runtimes' probabilities, share of same signs, milliseconds on both."""
    old, milliseconds = run_old(python, content, given)
    model = Model(content)
    began = time.perf_counter()
    new = np.stack([model(frames) for frames in given])
    milliseconds_now = 1e3 * (time.perf_counter() - began) / len(given)
    return {
        "largest_difference": float(np.abs(old - new).max()),
        "same_sign": float((old.argmax(axis=1) == new.argmax(axis=1)).mean()),
        "milliseconds": milliseconds,
        "milliseconds_on_litert": milliseconds_now,
    }


def main() -> None:
    files = {name: submission.read(Path(name)) for name in sys.argv[1:]} or random_models()
    given = sequences([*FEW_LENGTHS, *contest_lengths()])
    results: dict[str, dict[str, dict[str, float]]] = {}
    for version in VERSIONS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                python = install(version, Path(folder) / "environment")
            except NotInstallableError as error:
                print(f"left out: {error}")
                continue
            results[version] = {name: compare(python, content, given) for name, content in files.items()}
        for name, found in results[version].items():
            print(
                f"tflite-runtime {version}  {name}: {found['same_sign']:.1%} same sign on {len(given)} sequences, "
                f"probabilities within {found['largest_difference']:.0e}; {found['milliseconds']:.1f} ms a sequence, "
                f"{found['milliseconds_on_litert']:.1f} on LiteRT"
            )
    print(json.dumps({"bench": "old_runtime", "sequences": len(given), "versions": results}))


if __name__ == "__main__":
    main()
