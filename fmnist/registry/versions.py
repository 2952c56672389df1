"""Versions of the registered model, and their aliases."""

from collections.abc import Mapping
from typing import Any

import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from fmnist.common.errors import ModelError, PromotionError
from fmnist.registry.decision_log import MODEL
from fmnist.registry.safe_loading import load_pyfunc
from fmnist.tracking import tag
from fmnist.tracking.model import logged_models, verified
from fmnist.tracking.retry import call_with_retry
from fmnist.tracking.store import if_there

CHAMPION, CHALLENGER = "champion", "challenger"

ALIAS_TIMEOUT = 2.0  # seconds, in which another process may create the same alias


def register(run: Run, tags: Mapping[str, Any]) -> int:
    """Return the version of a run's model, with `tags`; register it if it has none yet."""
    client = mlflow.MlflowClient()
    condition = f"name = '{MODEL}' and run_id = '{run.info.run_id}'"
    tags = {**tags, tag.MODEL_DIGEST: run.data.tags.get(tag.MODEL_DIGEST, "none")}
    created = None
    if not client.search_model_versions(condition):
        model_id = logged_model_id(run)
        source = client.get_logged_model(model_id).artifact_location
        created = client.create_model_version(
            MODEL, source, run.info.run_id, tags, model_id=model_id
        ).version
    first = min(client.search_model_versions(condition), key=lambda version: int(version.version))
    if created is not None and int(created) != int(first.version):  # another process was quicker
        client.delete_model_version(MODEL, str(created))
    for key in tags.keys() - first.tags.keys():  # somebody registered it by hand
        client.set_model_version_tag(MODEL, str(first.version), key, tags[key])
    return int(first.version)


def logged_model_id(run: Run) -> str:
    """Return the id of the model that a run logged; raise PromotionError if it logged none."""
    models = logged_models(run)
    if not models:
        raise PromotionError(f"run {run.info.run_id}: logged no model")
    return str(models[0].model_id)


def find_version(version: int) -> ModelVersion | None:
    """Return a version of the registered model; None if there is none of that number."""
    return if_there(mlflow.MlflowClient().get_model_version, MODEL, str(version))


def version_at(version: int) -> ModelVersion:
    """Return a version of the registered model; raise PromotionError if there is none."""
    registered = find_version(version)
    if registered is None:
        raise PromotionError(f"version {version} of {MODEL}: does not exist")
    return registered


def run_id_of(version: int) -> str:
    """Return the id of the run that trained a version."""
    return str(version_at(version).run_id)


def version_of(alias: str) -> int | None:
    """Return the version that has an alias; None if there is none."""
    model: Any = if_there(mlflow.MlflowClient().get_registered_model, MODEL)
    version = model and model.aliases.get(alias)
    return None if version is None else int(version)


def set_alias(alias: str, version: int) -> None:
    """Move an alias; another process may create it at the same moment."""
    client = mlflow.MlflowClient()
    call_with_retry(
        lambda: client.set_registered_model_alias(MODEL, alias, str(version)), ALIAS_TIMEOUT
    )


def load_champion() -> tuple[int, Any]:
    """Return the champion's version and its model, without executing code of the store.

    Raises:
        PromotionError: if there is no champion, or if its model is missing or was altered.
    """
    version = version_of(CHAMPION)
    if version is None:
        raise PromotionError("there is no champion yet: `python -m fmnist promote` makes one")
    expected = version_at(version).tags.get(tag.MODEL_DIGEST, "none")
    try:
        with verified(f"models:/{MODEL}/{version}", expected) as folder:
            return version, load_pyfunc(folder)
    except ModelError as error:
        raise PromotionError(f"version {version}: {error}") from error
