"""Between torch and the compiled loops of trainer.model.loops, which work on arrays."""

import numpy as np
import torch


def in_loops(*tensors: torch.Tensor) -> bool:
    """Whether compiled loops are the fastest, and can be used: float32 in one piece, on one CPU thread.

    On more threads, torch's own operations share their work.
    """
    return torch.get_num_threads() == 1 and all(
        item.device.type == "cpu" and item.dtype == torch.float32 and item.is_contiguous() for item in tensors
    )


def arrays(*tensors: torch.Tensor) -> tuple[np.ndarray, ...]:
    """The tensors' memory as arrays."""
    return tuple(item.detach().numpy() for item in tensors)
