"""What study.json keeps."""

import json
from pathlib import Path

from search.problem.space import Space
from search.record.request import Request
from tests.search.decide.test_wrapping import BASE
from tests.search.problem.test_space import CONDITIONAL
from trainer.data.dataset import PackedDataset
from trainer.studydir import STUDY_JSON, StudyDir


def test_the_limit_is_kept_in_study_json_and_older_ones_have_none(tmp_path: Path, packed: Path) -> None:
    space = Space.parse(CONDITIONAL, BASE).limited(3_000_000)
    request = Request.of(
        space=space,
        dataset=PackedDataset.open(packed),
        trials=2,
        seed=0,
        sampler="tpe",
        pruner="none",
        recipe_points=True,
    )
    request.write(StudyDir(tmp_path))
    assert Request.read(StudyDir(tmp_path)).to_space() == space
    content = json.loads((tmp_path / STUDY_JSON).read_text())
    del content["max_params"]
    (tmp_path / STUDY_JSON).write_text(json.dumps(content))
    assert Request.read(StudyDir(tmp_path)).to_space().max_params is None
