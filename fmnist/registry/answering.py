"""The models that answer: the champion of a registered model, or the model of one run."""

from dataclasses import dataclass
from typing import Any

from fmnist.common.errors import ModelError, PromotionError
from fmnist.registry import versions
from fmnist.registry.decision_log import no_champion
from fmnist.registry.model_names import data_set_of
from fmnist.registry.safe_loading import load_pyfunc
from fmnist.registry.versions import CHAMPION, version_of
from fmnist.tracking import tag
from fmnist.tracking.model import verified
from fmnist.tracking.store import find_run


@dataclass(frozen=True)
class AnsweringModel:
    """A loaded model, and which one it is."""

    name: str  # of the registered model, or "run ID"
    version: int | None  # of the registered model
    data_set: str  # that it was trained on
    uri: str  # as MLflow loads it
    model: Any

    def __str__(self) -> str:
        version = f", version {self.version}" if self.version else ""
        return f"{self.name}{version}, trained on {self.data_set}"


def load_champion(model: str) -> AnsweringModel:
    """Load the champion of a registered model, without executing code of the store.

    Raises:
        PromotionError: if there is no champion, or if its model is missing or was altered.
    """
    version = version_of(model, CHAMPION)
    if version is None:
        raise no_champion(model)
    registered, uri = versions.version_at(model, version), f"models:/{model}/{version}"
    data_set = versions.data_set_of_version(registered) or "unknown data"
    expected = registered.tags.get(tag.MODEL_DIGEST, "none")
    loaded = _load(uri, expected, f"version {version} of {model}")
    return AnsweringModel(model, version, data_set, uri, loaded)


def load_run(run_id: str) -> AnsweringModel:
    """Load the model of one run, without executing code of the store.

    Raises:
        PromotionError: if there is no such run, or if its model is missing or was altered.
    """
    run = find_run(run_id)
    if run is None:
        raise PromotionError(f"run {run_id}: there is none in this store")
    if tag.SWEEP in run.data.tags:
        raise PromotionError(f"run {run_id}: is a study, which has no model; name one of its runs")
    uri = f"models:/{versions.logged_model_id(run)}"
    loaded = _load(uri, run.data.tags.get(tag.MODEL_DIGEST, "none"), f"run {run_id}")
    return AnsweringModel(f"run {run_id}", None, data_set_of(run.data.params), uri, loaded)


def _load(uri: str, expected: str, name: str) -> Any:
    try:
        with verified(uri, expected) as folder:
            return load_pyfunc(folder)
    except ModelError as error:
        raise PromotionError(f"{name}: {error}") from error
