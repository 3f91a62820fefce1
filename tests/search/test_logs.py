"""Logs in another tool's format: read back, epoch by epoch, of trials that are undisturbed and that go on."""

import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

import search.run
from search import cluster
from search.logs import LOGS
from search.progress import Progress
from search.space import Space
from search.study import SearchStudy
from tests.search.conftest import TINY_SPACE
from trainer.config import TrainConfig
from trainer.dataset import PackedDataset


def _scalars(folder: Path, tag: str) -> dict[int, float]:
    """Values by step, of all event files in a folder."""
    found = {}
    for path in sorted(folder.iterdir()):
        content, place = path.read_bytes(), 0
        while place < len(content):  # a record: length, its checksum, data, its checksum
            (length,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + length])
            for item in event.summary.value:
                if item.tag == tag:
                    found[event.step] = item.simple_value
            place += 12 + length + 4
    return found


@pytest.mark.usefixtures("ray_with_two_workers")
def test_tensorboard_files_hold_every_epoch(
    tmp_path: Path, packed: Path, base: TrainConfig, progress: Progress, resources: cluster.Resources
) -> None:
    for num_trials in (1, 2):  # the second search goes on with the study of the first
        study = SearchStudy(tmp_path, Space.parse(TINY_SPACE, base), num_trials=num_trials, seed=0, pruner="none")
        callbacks = [LOGS["tensorboard"](tmp_path)]
        assert search.run.search(study, PackedDataset.open(packed), resources, 1, progress, callbacks)
        study.close()
    folder = tmp_path / "logs" / "tensorboard"
    assert sorted(path.name for path in folder.iterdir()) == ["0000", "0001"]
    for number in range(2):
        wanted = {metrics.epoch: metrics.val_accuracy for metrics in study.run_dir(number).read_metrics()}
        assert _scalars(folder / f"{number:04d}", "ray/tune/val_accuracy") == pytest.approx(wanted)
        assert len(wanted) == base.epochs
