"""What README says of clusters, as far as it can be checked without one."""

import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from search import options

README = (Path(__file__).parents[1] / "README.md").read_text()
RAY_JOB, CLOUD = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL))


def test_the_cloud_cluster_is_one_by_rays_own_schema() -> None:
    config = prepare_config(CLOUD)
    validate_config(config)
    assert config["available_node_types"]["worker"]["min_workers"] <= config["max_workers"]
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        validate_config({**config, "max_worker": 3})


def test_the_ray_job_has_the_fields_that_kuberay_requires() -> None:
    assert (RAY_JOB["apiVersion"], RAY_JOB["kind"]) == ("ray.io/v1", "RayJob")
    cluster: dict[str, Any] = RAY_JOB["spec"]["rayClusterSpec"]
    assert f"ray=={cluster['rayVersion']}" in Path(__file__).parents[1].joinpath("constraints.txt").read_text()
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert {"name", "image", "resources"} <= set(container)
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    assert all({"groupName", "replicas"} <= set(group) for group in cluster["workerGroupSpecs"])


def test_the_ray_jobs_command_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    command = shlex.split(RAY_JOB["spec"]["entrypoint"])
    assert command[:3] == ["python", "-m", "search.run"]
    monkeypatch.setattr("sys.argv", command[2:])
    asked = options.parse()
    assert (asked.address, asked.results, asked.trials) == ("auto", "s3://BUCKET/results", 64)
