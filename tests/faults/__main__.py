"""Searches of 20 short trials under faults, each resumed until it is done and then looked at.

    python -m tests.faults
    python -m tests.faults --scenario "disk full" --seed 3

Prints a line for each scenario, and JSON at the end: trials lost, run twice, and changed by the faults (beside a
search that nothing befell), and studies that cannot be read. The exit status is 1 if any of these is not 0, or if a
driver ended neither well nor with one line of error. ``tests.faults.soak`` is the long one.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path

from tests.faults.outcome import Outcome
from tests.faults.scenarios import SCENARIOS, Place, Played
from tests.faults.searches import NAME, Search, finished
from tests.trainer.conftest import write_dataset


def play(names: list[str], trials: int, random_seed: int, folder: Path) -> dict[str, Played]:
    """Play scenarios, after a search that nothing befalls."""
    packed = write_dataset(folder / "packed")
    calm = Search(str(folder / "calm"), packed, folder, trials, more=("--workers", "2"))
    ended = calm.run()
    if ended.status != 0:
        raise RuntimeError(f"the undisturbed search ended with {ended.status}: {ended.stderr[-2000:]}")
    undisturbed = finished(folder / "calm" / NAME)
    played = {}
    for name in names:
        began = time.monotonic()
        place = Place(folder / name.replace(" ", "-"), packed, trials, undisturbed, random.Random(random_seed))
        place.folder.mkdir()
        played[name] = one = SCENARIOS[name](place)
        verdict = f"skipped: {one.skipped}" if one.skipped else "right" if one.outcome.is_right else "WRONG"
        numbers = ", ".join(f"{field.name} {getattr(one.outcome, field.name)}" for field in fields(Outcome))
        print(f"{name}: {verdict}; {numbers}; faults {one.faults}, runs {one.runs}, {time.monotonic() - began:.0f} s")
        for complaint in one.complaints:
            print(f"  {complaint}")
        sys.stdout.flush()
    return played


def summary(played: dict[str, Played]) -> dict[str, object]:
    """Numbers of all scenarios together, and of each."""
    done = {name: one for name, one in played.items() if not one.skipped}
    total = {field.name: sum(getattr(one.outcome, field.name) for one in done.values()) for field in fields(Outcome)}
    return {
        **total,
        "complaints": sum(len(one.complaints) for one in done.values()),
        "skipped": sorted(played.keys() - done.keys()),
        "scenarios": {
            name: {**one.outcome.to_json(), "faults": one.faults, "runs": one.runs} for name, one in done.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="only this one; may be repeated")
    parser.add_argument("--trials", type=int, default=20, help="of each search (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the faults' moments (default: 0)")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        played = play(options.scenario or list(SCENARIOS), options.trials, options.seed, Path(folder))
    numbers = summary(played)
    print(json.dumps({**numbers, "wall_seconds": round(time.monotonic() - began, 1)}))
    broken = any(not one.outcome.is_right or one.complaints for one in played.values() if not one.skipped)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
