"""What affects the weights beside the configuration: refused, recorded or without influence."""

import json
import subprocess
import sys

import pytest

from conftest import ENVIRONMENT, PROJECT, QUICK, lay_store, runs_in
from fmnist.common.errors import ConfigError
from fmnist.training import devices


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("TF_NUM_INTRAOP_THREADS", "training.threads"),
        ("TF_NUM_INTEROP_THREADS", "training.threads"),
        ("KERAS_MAX_EPOCHS", "training.epochs"),
        ("KERAS_MAX_STEPS_PER_EPOCH", "training.batch_size"),
    ],
)
def test_a_variable_that_overrules_the_configuration_is_refused(monkeypatch, name, instead):
    devices.check_environment()
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError, match=f"{name}=1: would overrule {instead}; unset it"):
        devices.check_environment()


@pytest.mark.slow
def test_keras_json_has_no_influence(tmp_path):
    settings = {"floatx": "float64", "epsilon": 0.1, "backend": "jax"}
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "keras.json").write_text(json.dumps(settings))
    tags = []
    for number, variables in enumerate([{}, {"KERAS_HOME": str(tmp_path / "keras")}]):
        folder = tmp_path / str(number)
        lay_store(folder)
        words = [sys.executable, "train.py", *QUICK, f"hydra.run.dir={folder}"]
        environment = (
            ENVIRONMENT | variables | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        )
        # A process of its own: one that has imported Keras does not read the file again.
        subprocess.run(words, cwd=PROJECT, env=environment, check=True, capture_output=True)
        tags.append(runs_in(folder)[0].data.tags)
    for key in ("signature", "weights.digest.last"):
        assert tags[0][key] == tags[1][key]


@pytest.mark.parametrize(
    ("files", "processors"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_quota_of_a_container_is_read(tmp_path, files, processors):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert devices.quota(tmp_path) == processors


def test_slurm_limits_the_processors(monkeypatch):
    assert devices.usable_processors() > 0
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert devices.usable_processors() == 1
