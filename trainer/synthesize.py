"""Write a generated sign dataset in the contest's own layout.

    python -m trainer.synthesize OUT --signs 20 --participants 12 --repeats 8 --seed 0

The work is done by trainer.synthetic.generate.
"""

from dataclasses import dataclass
from pathlib import Path

from trainer.common import cli
from trainer.common.fields import option, positive


@dataclass(frozen=True, kw_only=True)
class SynthesizeOptions:
    """Generate a sign dataset in the contest's own layout.

    Signs, signers and what a tracker sees of them are invented; lengths, missing hands and frame numbers are
    distributed as in the contest's data. trainer.pack reads the folder as it reads the contest's. The same options give
    the same landmarks. An interrupted run is finished by the same command.
    """

    out: Path = option(positional=True)
    """Folder that becomes the dataset."""
    signs: int = option(20, parse=positive)
    """Number of signs (classes)."""
    participants: int = option(12, parse=positive)
    """Number of signers."""
    repeats: int = option(8, parse=positive)
    """How often each signer repeats each sign."""
    seed: int = option(0)
    """Random seed. Another seed gives other signs and other signers."""


@cli.command(
    "trainer.synthesize",
    SynthesizeOptions,
    examples=["results/data/signs", "results/data/many --signs 250 --participants 21 --repeats 4 --seed 1"],
)
def main(options: SynthesizeOptions) -> None:
    from trainer.common.console import print_next
    from trainer.synthetic.generate import synthesize

    synthesize(
        options.out,
        num_signs=options.signs,
        num_participants=options.participants,
        repeats=options.repeats,
        seed=options.seed,
    )
    print_next("python", "-m", "trainer.pack", str(options.out), f"{options.out}-packed")


if __name__ == "__main__":
    cli.run(main)
