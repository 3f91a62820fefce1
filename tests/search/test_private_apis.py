"""Private parts of other packages that this project uses: a test fails, and says which, when one of them moves."""

import importlib
import inspect

import pytest

ATTRIBUTES = [
    ("optuna.storages._rdb.models", "TrialModel.__table__", "search.record.storage writes rows"),
    ("optuna.storages._rdb.models", "TrialParamModel.__table__", "search.record.storage writes rows"),
    ("optuna.storages._rdb.models", "TrialValueModel.value_to_stored_repr", "search.record.storage writes rows"),
    (
        "optuna.storages._rdb.models",
        "TrialIntermediateValueModel.intermediate_value_to_stored_repr",
        "search.record.storage writes rows",
    ),
    ("optuna.storages._rdb.models", "TrialValueModel.stored_repr_to_value", "search.record.reading reads rows"),
    (
        "optuna.storages._rdb.models",
        "TrialIntermediateValueModel.stored_repr_to_intermediate_value",
        "search.record.reading reads rows",
    ),
    ("optuna.storages._rdb.models", "TrialUserAttributeModel.__table__", "search.record.storage writes rows"),
    ("optuna.storages._rdb.models", "TrialSystemAttributeModel.__table__", "search.record.storage writes rows"),
    ("optuna.storages._rdb.models", "StudyUserAttributeModel.__table__", "search.record.storage writes rows"),
    ("optuna.storages._rdb.models", "StudySystemAttributeModel.__table__", "search.record.storage writes rows"),
    ("ray._private.services", "canonicalize_bootstrap_address_or_die", "search.execute.cluster finds a cluster"),
    (
        "ray._private.authentication.authentication_token_setup",
        "maybe_enable_token_auth_if_token_available",
        "search.execute.cluster shows its token",
    ),
    ("ray._common.utils", "get_default_ray_temp_dir", "search.execute.cluster sees whether sockets fit there"),
    ("ray._common.utils", "get_system_memory", "search.execute.cluster shows how much memory there is"),
    ("ray._private.utils", "get_used_memory", "search.execute.cluster shows how much memory is in use"),
    ("ray._private.utils", "set_sigterm_handler", "search.execute.cluster keeps it from doing anything"),
    ("ray._private.services", "ConsolePopen", "search.execute.cluster has it start process groups"),
    ("ray._private.worker", "_global_node", "search.execute.last_words asks it whether Ray's servers live"),
    ("ray._private.node", "Node.dead_processes", "search.execute.last_words asks whether Ray's servers live"),
    ("ray._raylet", "GcsClient", "search.execute.cluster asks whether a token is wanted"),
    (
        "ray.air.execution._internal.actor_manager",
        "RayActorManager._actor_task_failed",
        "search.execute.out_of_memory replaces it",
    ),
    (
        "ray.air.execution._internal.actor_manager",
        "RayActorManager._actor_start_failed",
        "search.execute.out_of_memory replaces it",
    ),
    ("ray.actor", "ActorHandle._actor_id", "search.execute.out_of_memory looks for a worker's memory by it"),
    ("ray.tune.experiment", "Trial.error_file", "search.execute.dispatch reads a failed trial's error"),
    ("mlflow.tracking", "MlflowClient.search_runs", "search.execute.loggers looks for a trial's run"),
    ("torch", "ops.aten._flash_attention_forward.default", "trainer.model.attention calls it"),
    ("torch", "_foreach_lerp_", "trainer.learning.optimizer calls it"),
]


@pytest.mark.parametrize(("module", "name", "use"), ATTRIBUTES, ids=lambda value: str(value).rpartition(".")[2])
def test_a_private_part_is_where_it_was(module: str, name: str, use: str) -> None:
    if module.startswith("mlflow"):
        pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    found = importlib.import_module(module)
    for part in name.split("."):
        assert hasattr(found, part), f"{module}.{name} is gone or has moved: {use}"
        found = getattr(found, part)


def test_rays_actor_manager_is_told_of_failures_with_the_same_arguments() -> None:
    from ray.air.execution._internal.actor_manager import RayActorManager

    names = list(inspect.signature(RayActorManager._actor_task_failed).parameters)
    assert names == ["self", "tracked_actor_task", "exception"], "search.execute.out_of_memory replaces this method"
    names = list(inspect.signature(RayActorManager._actor_start_failed).parameters)
    assert names == ["self", "tracked_actor", "exception"], "search.execute.out_of_memory replaces this method"
    theirs = inspect.getsource(RayActorManager._cleanup_actor)
    assert "self._live_actors_to_ray_actors_resources.pop(tracked_actor)" in theirs, (
        "search.execute.out_of_memory looks there"
    )


def test_rays_compiled_part_has_the_function_that_sets_its_abort_handler() -> None:
    import ctypes

    from ray import _raylet

    from search.execute.cluster import SET_ABORT_HANDLER

    assert getattr(ctypes.CDLL(_raylet.__file__), SET_ABORT_HANDLER), "search.execute.cluster calls it"


def test_rays_trials_say_in_which_file_an_actors_error_is() -> None:
    from ray.tune.experiment import Trial
    from ray.tune.experiment.trial import _TrialInfo  # noqa: F401  (the module itself is private)

    source = inspect.getsource(Trial.handle_error) + inspect.getsource(Trial._handle_ray_task_error)
    assert "pickled_error_filename" in source, "search.execute.dispatch tells dead workers from exceptions by it"


def test_optunas_trials_and_studies_have_the_ids_that_storages_take() -> None:
    import optuna

    study = optuna.create_study()
    trial = study.ask()
    assert study._storage.get_trial(trial._trial_id).number == 0, "search.decide and search.record use these"
    assert study._storage.get_n_trials(study._study_id) == 1


def test_tensorboards_callback_keeps_its_writers_where_they_were() -> None:
    from ray.tune.logger import TBXLoggerCallback

    callback = TBXLoggerCallback()
    for name in ("_summary_writer_cls", "_trial_writer", "_trial_result"):
        assert hasattr(callback, name), f"search.execute.loggers.TensorBoard uses {name}"


def test_mlflows_callback_keeps_its_runs_where_they_were() -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    from ray.air._internal.mlflow import _MLflowLoggerUtil
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    assert hasattr(_MLflowLoggerUtil, "_get_client"), "search.execute.loggers.MLflow finds earlier runs by it"
    assert "_trial_runs" in inspect.getsource(MLflowLoggerCallback), "search.execute.loggers.MLflow fills it"
