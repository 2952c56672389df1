"""The configuration that a run recorded, read back from the store."""

from typing import Any

from mlflow.entities import Run

from fmnist.common.errors import ConfigError
from fmnist.config.recorded import CONFIGURATION, config_of, data_of
from fmnist.config.schema import Config
from fmnist.tracking.artifacts import artifact
from fmnist.tracking.tags import COMMAND_TAG


def config_of_run(run: Run, output_dir: str, uri: str | None) -> Config:
    """Make the configuration of a run in `output_dir` of what `run` recorded.

    Raises:
        ConfigError: as `config_of`, or if it recorded nothing.
    """
    return config_of(_content(run), output_dir, uri)


def data_of_run(run: Run) -> dict[str, Any]:
    """Return what `create` builds the data set of a run from, whatever else the run is made of.

    Raises:
        ConfigError: as `config_of`.
    """
    with _refused():
        own = _checked({"data": _parsed(_content(run)).get("data")}, "")
        typed = OmegaConf.create(_with_schema(own["data"], "data"))
        data: Any = OmegaConf.to_container(typed, throw_on_missing=True)
        return dict(data)


def _content(run: Run) -> bytes:
    content = artifact(run.info.run_id, CONFIGURATION)
    if content is None:
        anew = run.data.tags.get(COMMAND_TAG, "train it anew")
        raise ConfigError(f"run {run.info.run_id}: did not come to tell what it is; anew: {anew}")
    return content
