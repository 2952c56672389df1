"""What a study found is kept, whatever its variants are called and wherever it prints."""

import subprocess

import mlflow
import pytest

from conftest import ENVIRONMENT, PROJECT, QUICK, lay_store, runs_in, train_command

NAMES = "$_$", "a|b"
PICTURES = {"accuracy_by_class", "differences_from_the_baseline", "every_seed", "learning_curves"}


@pytest.mark.slow
def test_a_study_is_whole_when_its_reader_has_gone(tmp_path):
    lay_store(tmp_path)
    name = "model.name=" + ",".join(f'"{name}"' for name in NAMES)
    overrides = (*QUICK, name, "seed=1,2", 'study.question="Is ± <drawn>?"', "training.epochs=1")
    with subprocess.Popen(
        train_command(tmp_path, "-m", *overrides),
        cwd=PROJECT,
        env=ENVIRONMENT | {"PYTHONIOENCODING": "ascii"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
    [study] = [run for run in runs_in(tmp_path) if "sweep" in run.data.tags]
    assert study.info.status == "FINISHED"
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    logged = {file.path for file in client.list_artifacts(study.info.run_id, "comparison")}
    assert {f"comparison/{picture}.png" for picture in PICTURES} <= logged
    text = mlflow.artifacts.load_text(f"{study.info.artifact_uri}/comparison/comparison.md")
    assert r"## Is ± \<drawn>?" in text and r"| a\|b" in text
