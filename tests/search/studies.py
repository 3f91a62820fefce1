"""Studies without a dataset, for tests and benchmarks of what is decided."""

from pathlib import Path
from typing import Any

from search.decide.samplers import default_sampler
from search.decide.stopping import DEFAULT_PRUNER
from search.decide.study import SearchStudy
from search.problem.objective import Objective
from search.problem.space import Space
from search.record.remote_copy import RemoteCopy
from search.record.request import Request
from trainer.data.dataset import PackedDataset
from trainer.studydir import StudyDir


class NoData:
    """Stands for a packed dataset of which a request keeps the names only."""

    source = "/nowhere"
    fingerprint = ""
    sign_names = ()


def request_of(
    space: Space, dataset: PackedDataset | None = None, objective: Objective | None = None, **asked: Any
) -> Request:
    """A request with the defaults of search.run, for four trials unless told otherwise."""
    sampler = default_sampler(space, objective or Objective())
    defaults = {"trials": 4, "seed": 0, "sampler": sampler, "pruner": DEFAULT_PRUNER, "recipe_points": True}
    data: Any = dataset or NoData
    return Request.of(space=space, dataset=data, objective=objective, **{**defaults, **asked})


def open_study(
    directory: Path, space: Space, *, remote: RemoteCopy | None = None, retry_failed: bool = False, **asked: Any
) -> SearchStudy:
    """Open or create the study of a request, without its study.json."""
    directory.mkdir(parents=True, exist_ok=True)
    return SearchStudy(StudyDir(directory), request_of(space, **asked), remote=remote, retry_failed=retry_failed)
