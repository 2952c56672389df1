"""The configuration that a run recorded, read back from the store."""

from typing import Any

from mlflow.entities import Run

from fmnist.common.errors import ConfigError
from fmnist.config.recorded import CONFIGURATION, config_of, data_of
from fmnist.config.schema import Config
from fmnist.tracking import tag
from fmnist.tracking.artifacts import artifact


def config_of_run(run: Run, output_dir: str, uri: str | None) -> Config:
    """Make the configuration of a run in `output_dir` of what `run` recorded."""
    return config_of(_recorded(run), output_dir, uri)


def data_of_run(run: Run) -> dict[str, Any]:
    """Return what `instantiate` builds the data set of a run from."""
    return data_of(_recorded(run))


def _recorded(run: Run) -> bytes:
    content = artifact(run.info.run_id, CONFIGURATION)
    if content is None:
        command = run.data.tags.get(tag.COMMAND, "train.py")
        raise ConfigError(
            f"run {run.info.run_id}: stopped before recording its configuration; "
            f"start again with: {command}"
        )
    return content
