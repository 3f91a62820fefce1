"""What is asked of a cluster's nodes before a search, where Ray itself is stood in for."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from search.execute import cluster
from search.options import RunOptions
from trainer.common.errors import UserError
from trainer.data.dataset import PackedDataset

DIED = ray.exceptions.RaySystemError("unschedulable")


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Names of the nodes that Ray sees, from one look to the next; on node "b" nothing can be run."""
    seen = [["a", "b"]]

    def nodes() -> list[dict[str, Any]]:
        names = seen.pop(0) if len(seen) > 1 else seen[0]
        return [{"NodeID": f"{ord(name):056x}", "NodeManagerHostname": name} for name in names]

    def get(node_id: str, **_: object) -> str:
        if node_id == f"{ord('b'):056x}":
            raise DIED
        return ""

    def options(scheduling_strategy: Any) -> Any:
        return SimpleNamespace(remote=lambda *_: scheduling_strategy.node_id)

    monkeypatch.setattr(cluster, "_nodes", nodes)
    monkeypatch.setattr(cluster, "LOST_SECONDS", 1.0)
    monkeypatch.setattr(ray, "remote", lambda **_: lambda _: SimpleNamespace(options=options))
    monkeypatch.setattr(ray, "get", get)
    return seen


def test_a_node_that_is_lost_while_it_is_asked_is_none(alive: list[list[str]], tmp_path: Path, packed: Path) -> None:
    alive += [["a", "b"], ["a"]]
    cluster.check_nodes(tmp_path, PackedDataset.open(packed))


def test_a_node_that_stays_and_runs_nothing_is_named(alive: list[list[str]], tmp_path: Path, packed: Path) -> None:
    assert alive
    with pytest.raises(UserError, match=r"node b: cannot run this program \(.*unschedulable"):
        cluster.check_nodes(tmp_path, PackedDataset.open(packed))


def test_rays_sockets_get_a_short_folder_where_that_for_temporary_files_is_deep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "")  # so that it is put back
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setattr("atexit.register", lambda *_, **__: None)
    monkeypatch.setenv("TMPDIR", "/tmp/job")
    cluster.make_room_for_sockets()
    assert "RAY_TMPDIR" not in os.environ
    monkeypatch.setenv("TMPDIR", f"/tmp/{'deep/' * 15}")
    monkeypatch.setattr(cluster, "SHORT_FOLDER", str(tmp_path))
    cluster.make_room_for_sockets()
    (made,) = tmp_path.iterdir()
    assert os.environ["RAY_TMPDIR"] == str(made)
    assert made.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("RAY_TMPDIR", f"/tmp/{'deep/' * 15}")
    monkeypatch.setattr(cluster, "SHORT_FOLDER", str(tmp_path / "none"))
    with pytest.raises(
        UserError, match=r"too deep a folder for Ray's sockets.*; set RAY_TMPDIR to a folder of at most 40"
    ):
        cluster.make_room_for_sockets()


def test_room_is_what_fits_or_is_asked_for_less_what_is_taken_from_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [{"NodeID": name, "Resources": {"CPU": cpus}} for name, cpus in (("a", 8), ("b", 4))]
    monkeypatch.setattr(cluster, "_nodes", lambda: there)
    two_cpus = cluster.Resources(cpus=2)
    fitting, asked = cluster.Room(two_cpus), cluster.Room(two_cpus, workers=3)
    assert (fitting(), asked()) == (6, 3)
    assert (fitting.by_node(), asked.by_node()) == ({"a": 4, "b": 2}, {"a": 3, "b": 2})
    for room in (fitting, asked):
        room.limit("a", 1)
        room.limit("gone", 1)
    assert (fitting(), asked()) == (3, 3)
    asked.limit("b", 1)
    assert asked() == 2
    fitting.lift("a")
    assert fitting() == 6


@pytest.mark.parametrize("number", [1, 3, 7, 32, 49])
def test_as_many_trials_fit_on_a_gpu_as_are_to_share_it(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = cluster.Resources.of(RunOptions(trials_per_gpu=number))
    monkeypatch.setattr(cluster, "_nodes", lambda: [{"NodeID": "a", "Resources": {"CPU": 2, "GPU": 2}}])
    assert cluster.Room(resources)() == 2 * number
    assert resources.to_ray()["cpu"] == 0
    monkeypatch.setattr(cluster, "_nodes", lambda: [{"NodeID": "a", "Resources": {"CPU": 2}}])
    with pytest.raises(UserError, match="needs a node with a GPU, but the nodes have 2 CPUs and 0 GPUs"):
        cluster._check_room(resources)


def test_memory_in_use_is_part_of_what_there_is() -> None:
    used, total = cluster.memory()
    assert 0 < used < total
