"""Runs a .tflite file as the contest does: on LiteRT, by its signature serving_default, one sequence a call.

Needs neither torch nor TensorFlow.
"""

from typing import Any, Final

import numpy as np

from trainer.common.errors import UserError, in_one_line
from trainer.common.processes import silent_stderr
from trainer.landmarks import NUM_ROWS

SIGNATURE, INPUT, OUTPUT = "serving_default", "inputs", "outputs"
INPUT_SHAPE: Final = (-1, NUM_ROWS, 3)
LONGEST: Final = 300  # characters of a file's own words that errors show


class Model:
    """A loaded .tflite file. Each call resizes the input to its sequence, as the contest's evaluator does."""

    def __init__(self, content: bytes, threads: int = 1) -> None:
        """Raises UserError if LiteRT cannot read the file, or the file lacks the contest's signature."""
        from ai_edge_litert.interpreter import Interpreter

        try:
            with silent_stderr():
                self._interpreter: Any = Interpreter(model_content=content, num_threads=threads)
                self.signatures: dict[str, Any] = self._interpreter.get_signature_list()
                self._interpreter.allocate_tensors()
                self._run: Any = self._interpreter.get_signature_runner(SIGNATURE)
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"not a TFLite file with the signature {SIGNATURE!r}: {in_one_line(error)[:LONGEST]}"
            ) from error
        expected = {"inputs": [INPUT], "outputs": [OUTPUT]}
        if self.signatures[SIGNATURE] != expected:
            raise UserError(
                f"signature {SIGNATURE!r} must have {expected}, not {str(self.signatures[SIGNATURE])[:LONGEST]}"
            )

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Raw landmarks float32 [n, 543, 3], n >= 1, NaN where missing -> the file's output, float32 [num_signs].

        Raises UserError for landmarks of any other shape or type: LiteRT takes some of them, and predicts nonsense.
        """
        if frames.ndim != 3 or frames.shape[1:] != INPUT_SHAPE[1:] or len(frames) == 0 or frames.dtype != np.float32:
            raise UserError(
                f"landmarks must be float32 [n, {NUM_ROWS}, 3] with n of at least 1, "
                f"not {frames.dtype} {list(frames.shape)}"
            )
        probs: np.ndarray = self._run(**{INPUT: frames})[OUTPUT]
        return probs

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The input's shape as the file states it; -1 for a size that may vary."""
        details = self._run.get_input_details()[INPUT]
        return tuple(int(size) for size in details["shape_signature"])

    @property
    def input_dtype(self) -> np.dtype[Any]:
        """The input's type as the file states it."""
        dtype: np.dtype[Any] = np.dtype(self._run.get_input_details()[INPUT]["dtype"])
        return dtype
