"""Steps whose gradient is NaN or infinite are left out, and counted.

One such step would do harm for good: clipping spreads it to all parameters, and the momentum of Lion, or the averages
of AdamW, never lose it. Under Lion the weights even stay finite, as the sign of NaN is 0, and never move again.
"""

import math
from typing import Final

import torch

MAX_IN_A_ROW: Final = 10
"""Steps left out in a row with which a run has diverged: even if every second batch were a bad one, a thousandth of
such rows would come by chance"""


class StepGuard:
    """Makes an optimizer's steps, those alone whose gradient is finite.

    On a GPU it never waits for the device: the step is made, and undone there where its gradient was not finite.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self._optimizer = optimizer
        self._is_cpu = device.type == "cpu"
        self._skipped, self._row, self._longest = (torch.zeros((), device=device) for _ in range(3))

    def begin_epoch(self) -> None:
        """Count from zero."""
        for count in (self._skipped, self._row, self._longest):
            count.zero_()

    def step(self, norm: torch.Tensor) -> None:
        """Make a step, unless ``norm``, a scalar, the gradient's, is NaN or infinite."""
        if self._is_cpu:
            is_good = math.isfinite(norm.item())
            if is_good:
                self._optimizer.step()
            if is_good and not self._row:  # nothing to count, as nearly always
                return
            self._count(torch.tensor(float(not is_good)))
        else:
            self.step_on_device(norm)

    def step_on_device(self, norm: torch.Tensor) -> None:
        """The same without a look at ``norm`` from the host."""
        is_good = norm.isfinite()
        parameters = [item for group in self._optimizer.param_groups for item in group["params"]]
        for parameter in parameters:
            if parameter.grad is not None:  # a product with 0 would keep NaN
                parameter.grad = torch.where(is_good, parameter.grad, torch.zeros_like(parameter.grad))
        good, bad = is_good.float(), (~is_good).float()
        with torch.no_grad():
            changed = self._changed(parameters)
            kept = torch._foreach_mul(changed, bad)
            self._optimizer.step()
            torch._foreach_mul_(changed, good)
            torch._foreach_add_(changed, kept)
            if len(now := self._changed(parameters)) > len(changed):  # the first step made its averages, of zeros
                known = {id(tensor) for tensor in changed}
                torch._foreach_mul_([tensor for tensor in now if id(tensor) not in known], good)
        self._count(bad)

    def _changed(self, parameters: list[torch.Tensor]) -> list[torch.Tensor]:
        """All tensors on the device that a step changes."""
        states = [value for item in parameters for value in self._optimizer.state.get(item, {}).values()]
        return [*parameters, *(value for value in states if value.device == self._longest.device)]

    def _count(self, bad: torch.Tensor) -> None:
        self._skipped += bad
        self._row.add_(1).mul_(bad)
        torch.maximum(self._longest, self._row, out=self._longest)

    @property
    def skipped(self) -> int:
        """Steps left out so far in the epoch. On a GPU, looking waits for the device."""
        return int(self._skipped.item())

    @property
    def longest(self) -> int:
        """Most steps left out in a row so far. On a GPU, looking waits for the device."""
        return int(self._longest.item())
