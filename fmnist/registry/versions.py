"""Versions of a registered model, and their aliases."""

from collections.abc import Mapping
from typing import Any

import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from fmnist.common.errors import PromotionError
from fmnist.registry.model_names import data_set_of
from fmnist.tracking import tag
from fmnist.tracking.model import logged_models
from fmnist.tracking.retry import call_with_retry
from fmnist.tracking.store import if_there

CHAMPION, CHALLENGER = "champion", "challenger"
DATA_SET_TAG = "data_set"  # of a version

ALIAS_TIMEOUT = 2.0  # seconds, in which another process may create the same alias


def register(model: str, run: Run, tags: Mapping[str, Any]) -> int:
    """Return the version of a run's model, with `tags`; register it if it has none yet."""
    client = mlflow.MlflowClient()
    tags = {**tags, tag.MODEL_DIGEST: run.data.tags.get(tag.MODEL_DIGEST, "none")}
    created = None
    if not _versions_of_run(model, run):
        model_id = logged_model_id(run)
        source = client.get_logged_model(model_id).artifact_location
        created = client.create_model_version(
            model, source, run.info.run_id, tags, model_id=model_id
        ).version
    first = min(_versions_of_run(model, run), key=lambda version: int(version.version))
    if created is not None and int(created) != int(first.version):  # another process was quicker
        client.delete_model_version(model, str(created))
    for key in tags.keys() - first.tags.keys():  # somebody registered it by hand
        client.set_model_version_tag(model, str(first.version), key, tags[key])
    return int(first.version)


def _versions_of_run(model: str, run: Run) -> list[ModelVersion]:
    found = mlflow.MlflowClient().search_model_versions(f"run_id = '{run.info.run_id}'")
    return [version for version in found if version.name == model]  # which may hold a quote


def logged_model_id(run: Run) -> str:
    """Return the id of the model that a run logged; raise PromotionError if it logged none."""
    models = logged_models(run)
    if not models:
        raise PromotionError(f"run {run.info.run_id}: logged no model")
    return str(models[0].model_id)


def find_version(model: str, version: int) -> ModelVersion | None:
    """Return a version of a registered model; None if there is none of that number."""
    return if_there(mlflow.MlflowClient().get_model_version, model, str(version))


def version_at(model: str, version: int) -> ModelVersion:
    """Return a version of a registered model; raise PromotionError if there is none."""
    registered = find_version(model, version)
    if registered is None:
        raise PromotionError(f"version {version} of {model}: does not exist")
    return registered


def run_id_of(model: str, version: int) -> str:
    """Return the id of the run that trained a version."""
    return str(version_at(model, version).run_id)


def data_set_of_version(registered: ModelVersion) -> str | None:
    """Return the name of the data set that a version was trained on; None: nobody knows."""
    if DATA_SET_TAG in registered.tags:
        return str(registered.tags[DATA_SET_TAG])
    run = if_there(mlflow.get_run, registered.run_id) if registered.run_id else None
    return data_set_of(run.data.params) if run else None


def version_of(model: str, alias: str) -> int | None:
    """Return the version that has an alias; None if there is none."""
    registered: Any = if_there(mlflow.MlflowClient().get_registered_model, model)
    version = registered and registered.aliases.get(alias)
    return None if version is None else int(version)


def set_alias(model: str, alias: str, version: int) -> None:
    """Move an alias; another process may create it at the same moment."""
    client = mlflow.MlflowClient()
    call_with_retry(
        lambda: client.set_registered_model_alias(model, alias, str(version)), ALIAS_TIMEOUT
    )
