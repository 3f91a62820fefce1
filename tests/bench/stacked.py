"""Whether several models of one shape train faster as one batched computation than in turns.

    python -m tests.bench.stacked [--device cuda] [--threads 1] [--rounds 7] [--models 2,4,8]

A model is six blocks without attention, which stacking would not change: it has no weights, and its groups of
sequences are batched already. Forward and backward of every member on its own batch of 16 or of 128 sequences (38
frames each, the contest's mean), either one member after the other, or with stacked weights [members, in, out] as
batched products. Both sides compute the same numbers, which is checked; they take turns, and every figure is the median
of the rounds. Above 1, stacking is faster.
"""

import argparse
import json
from statistics import median

import torch
import torch.nn.functional as F
from rich.table import Table

from tests.bench.workload import seconds
from trainer.common import cli
from trainer.common.console import console, track
from trainer.config import HEAD_DIM, ModelConfig
from trainer.learning.allocator import keep_freed_memory

LAYERS, FRAMES = 6, 38
Weights = dict[str, torch.Tensor]


def make_weights(config: ModelConfig, members: int, device: torch.device) -> list[Weights]:
    """Of each layer, stacked over members: [members, in, out]."""
    width, hidden = config.width, config.ffn_width
    shapes = {"mix": (width, width), "gate_up": (width, 2 * hidden), "down": (hidden, width)}
    generator = torch.Generator().manual_seed(0)
    return [
        {
            name: (torch.randn(members, *shape, generator=generator) * shape[0] ** -0.5).to(device).requires_grad_()
            for name, shape in shapes.items()
        }
        for _ in range(LAYERS)
    ]


def run(weights: list[Weights], x: torch.Tensor) -> None:
    """Forward and backward of x [tokens, width], or of all members at once [members, tokens, width]."""
    for layer in weights:
        x = x + F.rms_norm(x, x.shape[-1:]) @ layer["mix"]
        gate, up = (F.rms_norm(x, x.shape[-1:]) @ layer["gate_up"]).chunk(2, dim=-1)
        x = x + (F.silu(gate) * up) @ layer["down"]
    x.square().mean(dim=(-1, -2)).sum().backward()


def compare(heads: int, sequences: int, members: int, rounds: int, device: torch.device) -> float:
    """Seconds of members in turns, over seconds of them stacked."""
    config = ModelConfig(num_heads=heads, num_layers=LAYERS)
    stacked = make_weights(config, members, device)
    alone = [
        [{name: item[member].detach().clone().requires_grad_() for name, item in layer.items()} for layer in stacked]
        for member in range(members)
    ]
    x = torch.randn(members, sequences * FRAMES, heads * HEAD_DIM, device=device)

    def in_turns() -> None:
        for weights, own in zip(alone, x, strict=True):
            run(weights, own)

    def at_once() -> None:
        run(stacked, x)

    in_turns()
    at_once()
    for member, weights in enumerate(alone):
        gradients = stacked[0]["mix"].grad
        assert gradients is not None
        torch.testing.assert_close(weights[0]["mix"].grad, gradients[member], rtol=1e-3, atol=1e-6)
    times = [(seconds(in_turns, device), seconds(at_once, device)) for _ in range(rounds)]
    return median(first / second for first, second in times)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stacked")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", default="2,4,8", help="members trained at once")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    device = torch.device(options.device)
    counts = [int(count) for count in options.models.split(",")]
    shapes = [(heads, sequences) for heads in (1, 2) for sequences in (16, 128)]
    ratios = {
        shape: {count: round(compare(*shape, count, options.rounds, device), 2) for count in counts}
        for shape in track(shapes, len(shapes), "shapes")
    }
    table = Table(title=f"stacked over in turns, {options.device}, {options.threads} thread(s)")
    for heading in ("heads", "sequences", *(f"{count} models" for count in counts)):
        table.add_column(heading, justify="right")
    for (heads, sequences), row in ratios.items():
        table.add_row(str(heads), str(sequences), *(f"{ratio:.2f}" for ratio in row.values()))
    console.print(table)
    report = {f"{heads}x{LAYERS}, {sequences} sequences": row for (heads, sequences), row in ratios.items()}
    print(json.dumps({"bench": "stacked", "device": options.device, "threads": options.threads, "speedup": report}))


if __name__ == "__main__":
    cli.run(main)
