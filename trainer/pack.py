"""Pack the contest's parquet files into one memory-mappable dataset, once.

    python -m trainer.pack SOURCE OUT [--signs hello,thankyou] [--workers N] [--skip-bad]

The work is done by trainer.data.packing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.common import cli
from trainer.common.fields import option, positive

if TYPE_CHECKING:
    from rich.table import Table

    from trainer.data.packing import Skipped


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """Pack the contest's parquet files into one dataset.

    Reads x and y of 85 landmarks from every file that train.csv names, centres each sequence on the head, and writes
    one array that all trials on a machine share. Do it once: 57 GB become 2.5 GB. The result is the same with any
    number of workers. An interrupted run leaves no dataset; run the same command again.
    """

    source: Path = option(positional=True)
    """Folder of the contest, with train.csv, sign_to_prediction_index_map.json and the landmark files."""
    out: Path = option(positional=True)
    """Folder that becomes the packed dataset."""
    signs: str | None = option(None, metavar="SIGN,...")
    """Pack only these signs, separated by commas (default: all). Names that have a comma themselves are recognised."""
    skip_bad: bool = option(False)
    """Leave bad sequences out and list them at the end. Without this the first one stops the command."""
    workers: int | None = option(None, parse=positive, group="where it runs")
    """Processes that read (default: one for every 1,000 sequences, at most 4 and at most one a core)."""


@cli.command(
    "trainer.pack",
    PackOptions,
    examples=["asl-signs results/data/asl-signs", "asl-signs results/data/greetings --signs hello,bye --skip-bad"],
)
def main(options: PackOptions) -> None:
    from trainer.common.console import console, for_tables, print_next
    from trainer.data.contest import read_sign_map, split_signs
    from trainer.data.dataset import PackedDataset
    from trainer.data.packing import pack

    signs = None if options.signs is None else split_signs(options.signs, read_sign_map(options.source))
    skipped = pack(options.source, options.out, signs=signs, workers=options.workers, skip_bad=options.skip_bad)
    dataset = PackedDataset.open(options.out)
    participants, signs_seen = len(set(dataset.participants)), len(set(dataset.labels))
    console.print(
        f"{options.out}: {len(dataset):,} sequences, {len(dataset.frames):,} frames, "
        f"{participants} participants, {signs_seen} of {dataset.num_signs} signs",
        soft_wrap=True,
        markup=False,
    )
    if skipped:
        to = for_tables()
        to.print(_table_of_skipped(skipped, to.width * 2 // 3))
    print_next("python", "-m", "search.run", "--data", str(options.out))


def _table_of_skipped(skipped: "list[Skipped]", most: int) -> "Table":
    """One line a sequence; paths of up to ``most`` columns stay whole."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from trainer.common.fields import printable

    table = Table(title=f"left out: {len(skipped):,}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("path", overflow="fold", min_width=min(most, max(len(path) for path, _ in skipped)))
    table.add_column("why", overflow="fold")
    for path, reason in skipped:
        table.add_row(Text(printable(path)), Text(printable(reason)))
    return table


if __name__ == "__main__":
    cli.run(main)
