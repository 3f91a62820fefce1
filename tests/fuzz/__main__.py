"""Try mutated inputs at every door of the program.

    python -m tests.fuzz --inputs 10000 --seed 0
    python -m tests.fuzz --door "train.csv" --inputs 500

The rule: a command ends with a right result, or refuses its input in one line that names it, in under 10 seconds. Each
kind of failure is printed once, in words, with the smallest input that shows it; the last line is JSON. The exit status
is 1 if there was a failure.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.doors import Door
from tests.fuzz.doors.every import DOORS
from tests.fuzz.hunt import Found, Tally, hunt, share_out, summary
from tests.fuzz.worker import Worker

PIECE = 100
"""Inputs of one door that a process tries before it takes the next piece of work"""


def hunt_all(
    doors: Sequence[Door], inputs: int, random_seed: int, processes: int, folder: Path, *, fast: bool = False
) -> dict[str, Tally]:
    """Share the inputs out among the doors and the processes."""
    tallies = {door.name: Tally() for door in doors}
    pieces = [
        (door, min(PIECE, count - done), done)
        for door in doors
        if (count := share_out(doors, inputs, fast=fast)[door.name])
        for done in range(0, count, PIECE)
    ]
    pieces.reverse()  # the dear doors come last in their list: one that begins last must not be dear
    lock, failures = threading.Lock(), list[BaseException]()

    def told(found: Found) -> None:
        with lock:
            known = {(one.door, one.verdict.kind) for one in tallies[found.door].found}
            if (found.door, found.verdict.kind) not in known:
                tallies[found.door].found.append(found)
                print(found, flush=True)

    def work(number: int) -> None:
        worker = Worker(folder / "valid", folder / f"process{number}")
        try:
            while True:
                with lock:
                    if not pieces or failures:
                        return
                    door, count, done = pieces.pop(0)
                tally = hunt(door, count, random_seed * 1000 + done, worker.ask, told)
                with lock:
                    tallies[door.name].counts.update(tally.counts)
                    tallies[door.name].seconds += tally.seconds
        except BaseException as error:
            failures.append(error)
        finally:
            worker.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return tallies


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--inputs", type=int, default=10_000, help="how many are tried (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, help="another one draws other inputs (default: 0)")
    parser.add_argument("--door", choices=DOORS, action="append", help="only this door; may be repeated (default: all)")
    parser.add_argument("--processes", type=int, default=2, help="that try them (default: 2)")
    options = parser.parse_args()
    began = time.monotonic()
    doors = [DOORS[name] for name in options.door or DOORS]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        tallies = hunt_all(doors, options.inputs, options.seed, options.processes, Path(folder))
    found = [one for tally in tallies.values() for one in tally.found]
    numbers = {"wall_seconds": round(time.monotonic() - began, 1), "seed": options.seed, "kinds_of_failure": len(found)}
    print(json.dumps({**numbers, **summary(tallies)}))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
