"""The simulated cluster of tests.bench.scale does what a real one does."""

from pathlib import Path

from search.decide.study import SearchStudy
from search.problem.space import DEFAULT_SPACE, Space
from search.record.trials import read_rows
from tests.bench.scale import EPOCHS, PARTS, open_again, search
from tests.search.studies import request_of
from trainer.config import TrainConfig
from trainer.studydir import StudyDir


def test_all_trials_end_and_leave_files_that_agree_with_the_database(tmp_path: Path) -> None:
    folder = StudyDir(tmp_path)
    space = Space.parse(DEFAULT_SPACE, TrainConfig(epochs=EPOCHS))
    request = request_of(space, trials=20, sampler="random", pruner="successive-halving", name="scale")
    request.write(folder)
    study = SearchStudy(folder, request)
    parts = search(study, 6, lambda: 0.0)
    study.close()
    rows = read_rows(tmp_path)
    assert [row.state for row in rows] == ["COMPLETE"] * 4 + ["PRUNED"] * 16
    assert {row.epochs for row in rows if row.state == "PRUNED"} <= {1, 3}
    assert [run.is_done for run in folder.trials()].count(True) == 4
    assert len(parts) == PARTS + 1
    assert sum(part["decisions"] for part in parts) > sum(row.epochs for row in rows) + 20
    assert open_again(tmp_path, None)["resume_s"] > 0
