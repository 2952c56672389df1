"""The name of a run that `mlflow run` opened: ours, unless the user gave one."""

import mlflow
from mlflow.utils.name_utils import _GENERATOR_NOUNS, _GENERATOR_PREDICATES


def replace_generated_name(run_id: str, name: str) -> None:
    """Name a run, if its name is one that MLflow drew, as `peaceful-moth-474`."""
    predicate, _, rest = str(mlflow.get_run(run_id).info.run_name).partition("-")
    noun, _, number = rest.partition("-")
    # No other mark tells a drawn name; MLflow is pinned, so these lists stay.
    if predicate in _GENERATOR_PREDICATES and noun in _GENERATOR_NOUNS and number.isdecimal():
        mlflow.MlflowClient().update_run(run_id, name=name)
