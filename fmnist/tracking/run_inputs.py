"""All that a run begins with: recorded, and read back."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.numpy_dataset import from_numpy

from fmnist.common.errors import ConfigError
from fmnist.config import recorded
from fmnist.config.schema import Config
from fmnist.data.datasets import Dataset
from fmnist.tracking import provenance, run_log, tag
from fmnist.tracking.artifacts import artifact
from fmnist.tracking.git import UNKNOWN, GitState, git_state
from fmnist.tracking.job_context import JobContext
from fmnist.tracking.store import Run, Store
from fmnist.training import devices


@dataclass(frozen=True)
class RunInputs:
    """All that a run begins with."""

    store: Store
    config: Config
    dataset: Dataset
    context: JobContext
    earlier: Run | None = None  # the run itself, if it was started before
    original: Run | None = None  # the run that it repeats

    @property
    def git(self) -> GitState:
        """What git knows of the code; a job of a sweep is told, so that all say the same."""
        return self.context.git or git_state(own=provenance.own_modules(self.config))


def origin_tags(inputs: RunInputs) -> dict[str, str]:
    """Return the tags that say what is run, by which code, on which data."""
    git, fingerprint = inputs.git, inputs.dataset.fingerprint
    tags = {
        tag.SIGNATURE: provenance.signature(inputs.config, fingerprint),
        tag.COMMAND: provenance.command(inputs.config, inputs.context),
        tag.COMMIT: git.commit or UNKNOWN,  # else MLflow may set that of another repository
        tag.CODE: provenance.code_digest(provenance.own_modules(inputs.config)),
        tag.DATA: fingerprint,
        "git.dirty": git.dirty,
        tag.PROCESSOR: devices.processor(),
    }
    if flags := devices.flags():
        tags[tag.FLAGS] = " ".join(f"{name}={value}" for name, value in flags.items())
    if git.patch_digest:
        tags[tag.PATCH] = git.patch_digest
    if inputs.context.trial is not None:
        tags[tag.TRIAL] = str(inputs.context.trial)
    if inputs.original:
        original_id = inputs.original.info.run_id
        tags[tag.REPRODUCES] = original_id
        tags[tag.COMMAND] = f"python -m fmnist reproduce {original_id}"
    return tags


def log_params(inputs: RunInputs, run: Run) -> None:
    """Log the params of a run; refuse others than `mlflow run` logged when it opened the run."""
    original = inputs.original
    choices = _choices(original) if original else dict(inputs.context.choices)
    params = choices | inputs.config.params()
    for key, given in run.data.params.items():
        if str(params.get(key, given)) != given:
            raise ConfigError(f"{key}={params[key]}: `mlflow run` has {given}; use -P {key}=")
    mlflow.log_params(params)


def _choices(run: Run) -> dict[str, str]:
    groups = {field.name for field in dataclasses.fields(Config)}
    return {key: value for key, value in run.data.params.items() if key in groups}


def log_inputs(inputs: RunInputs, run_id: str) -> None:
    """Log all that it takes to repeat the run; the data sets last, which mark it as complete."""
    client, config, patch = MlflowClient(), inputs.config, inputs.git.patch
    client.log_text(run_id, recorded.record(config), recorded.CONFIGURATION)
    client.log_dict(run_id, provenance.environment(), provenance.ENVIRONMENT)
    client.log_text(run_id, provenance.installed(), provenance.REQUIREMENTS)
    if patch:
        run_log.log_file(run_id, provenance.CHANGES, lambda path: path.write_bytes(patch))
    hydra_folder = Path(config.output_dir, ".hydra")
    if hydra_folder.is_dir():
        client.log_artifacts(run_id, str(hydra_folder), "config")
    _log_dataset(inputs.dataset)


def _log_dataset(dataset: Dataset) -> None:
    source = CodeDatasetSource(tags={"source": dataset.source})
    parts: list[Any] = [
        from_numpy(
            part.images,
            targets=part.labels,
            source=source,
            name=f"{dataset.name}-{name}",
            digest=dataset.fingerprint,
        )
        for name, part in dataset.parts.items()
    ]
    mlflow.log_inputs(parts, contexts=list(dataset.parts), tags_list=[None] * len(parts))


def config_of_run(run: Run, output_dir: str, uri: str | None) -> Config:
    """Read what `run` recorded as the configuration of a run in `output_dir`."""
    return recorded.config_of(_recorded_config(run), output_dir, uri)


def data_of_run(run: Run) -> dict[str, Any]:
    """Return what `instantiate` builds the data set of a run from."""
    return recorded.data_of(_recorded_config(run))


def _recorded_config(run: Run) -> bytes:
    content = artifact(run.info.run_id, recorded.CONFIGURATION)
    if content is None:
        command = run.data.tags.get(tag.COMMAND, "train.py")
        raise ConfigError(
            f"run {run.info.run_id}: stopped before recording its configuration; "
            f"start again with: {command}"
        )
    return content
