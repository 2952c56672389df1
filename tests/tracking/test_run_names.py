"""A run that `mlflow run` opened gets our name, unless it has one that a person gave."""

import mlflow
import pytest

from conftest import lay_store
from fmnist.tracking.run_names import replace_generated_name


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, "relu seed 1"), ("my-run-1", "my-run-1"), ("peaceful-moth-474", "relu seed 1")],
)
def test_a_name_that_was_drawn_is_replaced(tmp_path, given, expected):
    lay_store(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    client = mlflow.MlflowClient()
    run_id = client.create_run("0", run_name=given).info.run_id
    replace_generated_name(run_id, "relu seed 1")
    assert client.get_run(run_id).info.run_name == expected
