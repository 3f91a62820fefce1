"""One optimizer step: its loss against torch's own."""

import pytest
import torch
import torch.nn.functional as F

from trainer.learning.step import mixed_cross_entropy


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_the_loss_of_a_mixed_batch(label_smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 5, generator=generator) * 3
    labels = torch.tensor([[0, 1, 4], [1, 1, 1], [2, 0, 3], [3, 4, 3], [4, 2, 0], [0, 3, 1]])
    weights = torch.tensor([[1, 0, 0], [0.5, 0.3, 0.2], [0.6, 0.3, 0.1], [0.75, 0.25, 0], [0.9, 0.1, 0], [0.4] * 3])
    weights /= weights.sum(1, keepdim=True)
    wanted = torch.zeros(6, 5).scatter_add_(1, labels, weights)  # as a distribution over the signs
    expected = F.cross_entropy(logits, wanted, label_smoothing=label_smoothing)
    torch.testing.assert_close(mixed_cross_entropy(logits, labels, weights, label_smoothing), expected)
