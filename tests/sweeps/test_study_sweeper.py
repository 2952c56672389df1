"""Which study a command continues, and what it says of one that is finished."""

from types import SimpleNamespace

import mlflow
import pytest
from hydra.core.global_hydra import GlobalHydra

from conftest import lay_store
from fmnist.config.schema import Tracking
from fmnist.evidence.comparison import StudyDesign
from fmnist.sweeps.overrides import listed_values, swept
from fmnist.tracking import studies
from hydra_plugins.fmnist_plugins.grid_sweeper import GridSweeper


def test_a_finished_study_is_named_when_its_command_is_typed_again(tmp_path, capsys):
    lay_store(tmp_path)
    tracking = Tracking(f"sqlite:///{tmp_path}/mlflow.db", "fmnist")
    sweep = studies.Sweep("sweep", str(tmp_path), "train.py -m", None, 1, signature="signature")
    arguments = (tracking, StudyDesign(), sweep)
    first = studies.begin(*arguments)
    mlflow.MlflowClient().set_terminated(first.run_id, "FAILED")
    assert studies.begin(*arguments).run_id == first.run_id
    assert " resumes: finished runs are not trained again" in capsys.readouterr().out
    mlflow.MlflowClient().set_terminated(first.run_id, "FINISHED")
    second = studies.begin(*arguments)
    assert second.run_id != first.run_id and second.earlier is None
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"study {first.run_id} of the same command is finished (")
    assert f"python -m fmnist compare {first.run_id} shows it); a new study trains it again" in line


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("model.depth=1,2", ["1", "2"]),
        ("model.depth=range(1,4)", ["1", "2", "3"]),
        ("model=glob(selu*)", ["selu", "selu_dropout", "selu_plain_dropout"]),
        ("+model.name=choice('a b',c)", ["a\\ b", "c"]),
    ],
)
def test_the_values_of_a_sweep_are_listed_as_typed(swept_config, typed, values):
    _, overrides = swept_config(typed)
    [override] = swept(overrides).values()
    assert listed_values(override) == values


@pytest.mark.parametrize("folder", ["sweep", "a folder, it's mine"])
def test_jobs_get_the_absolute_folder_of_a_relative_one(
    swept_config, tmp_path, monkeypatch, folder
):
    monkeypatch.chdir(tmp_path)
    escaped = folder.replace("'", "\\'")
    config, _ = swept_config(f"hydra.sweep.dir='{escaped}'", "seed=1,2")
    loader = GlobalHydra.instance().config_loader()
    context = SimpleNamespace(config_loader=loader)
    GridSweeper().setup(hydra_context=context, task_function=len, config=config)
    job = loader.load_sweep_config(config, ["seed=1"])
    assert job.hydra.sweep.dir == config.hydra.sweep.dir == f"{tmp_path}/{folder}"
