"""Pages of MLflow's UI."""

import json
import zlib
from base64 import b64encode
from collections.abc import Sequence
from urllib.parse import quote, urlencode

import mlflow
from mlflow.exceptions import MlflowException

from fmnist.common.errors import is_refused
from fmnist.tracking.store import VIEW, Store

VARIANTS = "variants"  # name of our view
METRICS = ("best_epoch", "best_val_accuracy")  # not the test accuracy: nobody shall choose by it
PARAMS = ("data", "model", "seed", "training.epochs")


def experiment_page(store: Store) -> str:
    """Return the page of the experiment's runs: by variant, with the columns that tell them apart.

    The view is kept in a tag of the experiment, as by MLflow's own button "Share"; a user who may
    only read gets MLflow's default view.
    """
    columns = [f"metrics.`{name}`" for name in METRICS] + [f"params.`{name}`" for name in PARAMS]
    state = {"orderByKey": "params.`model`", "orderByAsc": True, "selectedColumns": columns}
    content = b64encode(zlib.compress(json.dumps(state).encode())).decode()
    key = f"mlflow.sharedViewState.{VARIANTS}"
    page = f"/#/experiments/{store.experiment_id}/runs{VIEW}"
    try:
        mlflow.MlflowClient().set_experiment_tag(store.experiment_id, key, f"deflate;{content}")
    except MlflowException as error:
        if not is_refused(error):
            raise
        return page
    return f"{page}&{urlencode({'viewStateShareKey': VARIANTS})}"


def compare_page(store: Store, run_ids: Sequence[str]) -> str:
    """Return the page that compares runs."""
    runs, experiments = (quote(json.dumps(ids)) for ids in (list(run_ids), [store.experiment_id]))
    return f"/#/compare-runs?runs={runs}&experiments={experiments}&{VIEW.removeprefix('?')}"
