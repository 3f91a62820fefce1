"""What can befall a search overnight. Each scenario is resumed until it is done, and then looked at."""

import logging
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import boto3
from moto.server import ThreadedMotoServer

from tests.faults import proxy
from tests.faults.outcome import Outcome, outcome_of
from tests.faults.searches import (
    EPOCHS,
    NAME,
    PATIENCE,
    Ended,
    Files,
    Search,
    finish,
    finished,
    kill,
    kill_workers,
    wait_for_trials,
)
from tests.nodes import nodes, workers_below

BUCKET: Final = "sign-studies"
MOST_RUNS: Final = 8
"""Times that a search is resumed before it counts as one that never gets done"""


@dataclass
class Place:
    """Where a scenario plays."""

    folder: Path
    packed: Path
    trials: int
    calm: Files
    """The finished trials of an undisturbed search"""
    rng: random.Random

    def search(self, *more: str, results: str | None = None, **environment: str) -> Search:
        where = str(self.folder / "results") if results is None else results
        return Search(
            where, self.packed, self.folder, self.trials, more=("--workers", "2", *more), environment=environment
        )

    @property
    def study(self) -> Path:
        return self.folder / "results" / NAME

    def look(self, seen: list[Files], study: Path | None = None) -> Outcome:
        return outcome_of(study or self.study, self.trials, EPOCHS, seen, self.calm)


@dataclass
class Played:
    """How a scenario went."""

    outcome: Outcome
    faults: int
    """Times that something was killed, full or away"""
    runs: int
    """Times that the search was started"""
    complaints: list[str]
    """Of drivers that did not end as they should: neither well nor with one line"""
    skipped: str = ""


def until_done(search: Search, study: Path, seen: list[Files], runs: int) -> tuple[int, list[str]]:
    """Resume a search until it ends well: how many runs it took in all, and what was wrong with those that did not."""
    complaints = list[str]()
    while runs < MOST_RUNS:
        if study.exists():
            seen.append(finished(study))
        ended = search.run(resume=(study / "study.json").exists())
        runs += 1
        if ended.status == 0:
            return runs, complaints
        complaints.append(said(ended))
    return runs, [*complaints, "never done"]


def said(ended: Ended) -> str:
    lines = ended.stderr.strip().splitlines()
    return f"status {ended.status}, {len(lines)} lines: {lines[-1][:200] if lines else ''}"


def workers_killed(place: Place) -> Played:
    """Random workers are killed; the driver goes on by itself."""
    search, seen = place.search(), list[Files]()
    driver = search.start()
    wait_for_trials(place.study, 1, driver)
    faults = kill_workers(driver, place.study, place.rng, most=12)
    ended = finish(driver)
    complaints = [] if ended.is_clean and ended.status == 0 else [said(ended)]
    runs, more = until_done(search, place.study, seen, 1) if complaints else (1, [])
    return Played(place.look(seen), faults, runs, complaints + more)


def driver_killed(place: Place) -> Played:
    """The driver is killed several times, at random moments."""
    search, seen, runs = place.search(), list[Files](), 0
    for part in range(1, 4):
        driver = search.start(resume=(place.study / "study.json").exists())
        runs += 1
        wait_for_trials(place.study, part * place.trials // 5, driver)
        time.sleep(place.rng.uniform(0, 1))
        kill(driver.pid)
        finish(driver)
        seen.append(finished(place.study))
    runs, complaints = until_done(search, place.study, seen, runs)
    return Played(place.look(seen), 3, runs, complaints)


def node_killed(place: Place) -> Played:
    """Nodes of a cluster are killed with all that runs on them."""
    seen: list[Files] = []
    with nodes(3, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0123456789abcdef" * 4) as cluster:
        search = place.search("--address", cluster.address, RAY_AUTH_TOKEN="0123456789abcdef" * 4)
        driver = search.start()
        faults = 0
        for count in (2, place.trials // 2):
            if wait_for_trials(place.study, count, driver) and (found := workers_below(cluster.process)):
                cluster.kill_node_of(place.rng.choice(found))
                faults += 1
        ended = finish(driver)
        complaints = [] if ended.status == 0 and ended.is_clean else [said(ended)]
        runs, more = until_done(search, place.study, seen, 1) if complaints else (1, [])
    return Played(place.look(seen), faults, runs, complaints + more)


def _in_namespace(script: str, place: Place) -> subprocess.CompletedProcess[str]:
    """Run a shell script that may mount, which nothing outside it sees."""
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=4 * PATIENCE, check=False,
        env={**os.environ, "R": str(place.folder / "results"), "OUT": str(place.folder / "out")}, cwd=Path.cwd(),
    )  # fmt: skip


def _can_mount(place: Place) -> bool:
    folder = place.folder / "results"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _in_namespace('mount -t tmpfs -o size=1m none "$R"', place).returncode == 0
    except OSError:
        return False


def _mounted(place: Place, before: str, between: str) -> Played:
    """A search in a file system of its own, started after ``before``, and resumed after ``between``."""
    if not _can_mount(place):
        return Played(Outcome(), 0, 0, [], "no file system can be mounted here (unshare -rm)")
    search = place.search()
    first = " ".join(search.command(resume=False))
    again = " ".join(search.command(resume=True))
    script = f"""{before}
{first} > "$OUT/1.out" 2> "$OUT/1.err"; echo $? > "$OUT/1.status"
cp -r "$R" "$OUT/1"
{between}
if [ -e "$R/{NAME}/study.json" ]; then {again} > "$OUT/2.out" 2> "$OUT/2.err"; echo $? > "$OUT/2.status"
else {first} > "$OUT/2.out" 2> "$OUT/2.err"; echo $? > "$OUT/2.status"; fi
cp -rp "$R" "$OUT/2"
"""
    out = place.folder / "out"
    out.mkdir()
    _in_namespace(script, place)
    ends = [Ended(int((out / f"{run}.status").read_text()), "", (out / f"{run}.err").read_text()) for run in (1, 2)]
    complaints = [said(ended) for ended in ends if not ended.is_clean]
    if ends[0].status == 0:
        complaints.append("the first search met no fault")
    return Played(place.look([], out / "2" / NAME), 1, 2, complaints)


def disk_full(place: Place) -> Played:
    """The file system of the results is full after some trials; then there is room again."""
    return _mounted(place, 'mount -t tmpfs -o size=4m none "$R"', 'mount -o remount,size=400m "$R"')


def folder_read_only(place: Place) -> Played:
    """The results cannot be written to at first."""
    return _mounted(place, 'mount -t tmpfs -o size=400m,ro none "$R"', 'mount -o remount,rw "$R"')


def terminated(place: Place) -> Played:
    """SIGTERM, as clusters and containers send it; the driver says how to go on, and ends with 143."""
    search, seen, complaints = place.search(), list[Files](), list[str]()
    for part in range(1, 3):
        driver = search.start(resume=part > 1)
        wait_for_trials(place.study, part * place.trials // 4, driver)
        time.sleep(place.rng.uniform(0, 1))
        kill(driver.pid, signal.SIGTERM)
        ended = finish(driver)
        if ended.status != 143 or "--resume" not in ended.stdout:
            complaints.append(said(ended))
        seen.append(finished(place.study))
    runs, more = until_done(search, place.study, seen, 2)
    return Played(place.look(seen), 2, runs, complaints + more)


def two_drivers(place: Place) -> Played:
    """A second driver comes to a study that is being searched: it is refused, and the first goes on."""
    search, seen, complaints, refused = place.search(), list[Files](), [], 0
    driver = search.start()
    for part in range(1, 3):
        if wait_for_trials(place.study, part * place.trials // 4, driver):
            ended = search.run(resume=True)
            refused += ended.status == 2
            if driver.poll() is None and (ended.status != 2 or not ended.is_clean):
                complaints.append(f"the second driver: {said(ended)}")
        seen.append(finished(place.study))
    ended = finish(driver)
    if ended.status != 0 or not ended.is_clean:
        complaints.append(said(ended))
    return Played(place.look(seen), refused, 1 + refused, complaints)


def storage_fails(place: Place) -> Played:
    """An S3 server stalls, errs and vanishes; then it is back, with all that it had."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it prints every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "anyone", "AWS_SECRET_ACCESS_KEY": "anything", "AWS_DEFAULT_REGION": "us-east-1"}
    client = boto3.client(
        "s3", endpoint_url=f"http://{host}:{port}", aws_access_key_id="anyone", aws_secret_access_key="anything",
        region_name="us-east-1",
    )  # fmt: skip
    client.create_bucket(Bucket=BUCKET)
    copy, seen, complaints, runs = place.folder / "copy", list[Files](), list[str](), 1
    with proxy.before(host, port) as link:
        where = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{link.port}",
            "XDG_CACHE_HOME": str(place.folder / "cache"),
            **keys,
        }
        search = place.search(results=f"s3://{BUCKET}/results", **where)
        driver = search.start()
        moods: list[tuple[proxy.Mood, float]] = [("stall", 4.0), ("err", 2.0), ("vanish", 20.0)]
        for part, (mood, seconds) in enumerate(moods, start=1):
            _wait_for_objects(client, part * place.trials // 5, driver)
            link.mood = mood
            time.sleep(seconds)
            link.mood = "pass"
        ended = finish(driver)
        while ended.status != 0 and runs < MOST_RUNS:
            if not ended.is_clean:
                complaints.append(said(ended))
            seen.append(finished(_download(client, copy)))
            ended = search.run(resume=True)
            runs += 1
        if ended.status != 0:
            complaints.append(f"never done: {said(ended)}")
        study = _download(client, copy)
    server.stop()
    played = Played(place.look([], study), len(moods), runs, complaints)
    now = finished(study)  # downloaded anew each time: what was finished must have stayed, whenever that was
    played.outcome.lost += sum(number not in now for files in seen for number in files)
    played.outcome.run_twice += sum(
        number in now and files[number][1:] != now[number][1:] for files in seen for number in files
    )
    return played


def _wait_for_objects(client: Any, count: int, driver: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + PATIENCE
    while driver.poll() is None and time.monotonic() < deadline:
        if sum(key.endswith("done.json") for key in _keys(client)) >= count:
            return
        time.sleep(0.2)


def _keys(client: Any) -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
    return [key for key in keys if not key.endswith("/")]  # others stand for folders


def _download(client: Any, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    for key in _keys(client):
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(BUCKET, key, str(path))
    return folder / "results" / NAME


SCENARIOS: Final[dict[str, Callable[[Place], Played]]] = {
    "workers killed": workers_killed,
    "driver killed": driver_killed,
    "node killed": node_killed,
    "disk full": disk_full,
    "folder read-only": folder_read_only,
    "storage fails": storage_fails,
    "SIGTERM": terminated,
    "two drivers": two_drivers,
}
