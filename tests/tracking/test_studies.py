"""A study in the tracking store, read back."""

import dataclasses

import mlflow

from fmnist.config import schema
from fmnist.config.schema import Tracking
from fmnist.evidence.comparison import StudyDesign, compare_variants
from fmnist.tracking import studies, study_runs


def test_the_first_that_was_typed_is_the_baseline_whichever_job_began_first(tmp_path):
    tracking = Tracking(f"sqlite:///{tmp_path}/mlflow.db", "fmnist", 0)
    opened = studies.begin(
        tracking, StudyDesign(), studies.Sweep("two at once", str(tmp_path), "train.py -m", None, 1)
    )
    for job, model in ((1, "selu"), (0, "relu")):
        with mlflow.start_run(
            experiment_id=opened.store.experiment_id,
            parent_run_id=opened.run_id,
            nested=True,
            tags={"output_dir": str(tmp_path / str(job))},
        ):
            mlflow.log_params({"model": model, "seed": 1})
            mlflow.log_metrics({"best_val_accuracy": 0.5, "best_test_accuracy": 0.5})
    study = study_runs.load(opened.store, opened.run_id)
    answer = compare_variants(study.runs, study.design)
    assert [variant.name for variant in answer.variants] == ["relu", "selu"]


def test_a_stopped_study_goes_on_with_its_threads_and_has_its_criteria(tmp_path):
    tracking = Tracking(f"sqlite:///{tmp_path}/mlflow.db", "fmnist", 0)
    folder = str(tmp_path / "sweep")
    criteria = {"min_effect": 0.3}
    sweep = studies.Sweep("one", folder, "train.py -m", "0" * 40, 1, criteria, "same")
    opened = studies.begin(tracking, StudyDesign(), sweep)
    mlflow.MlflowClient().set_terminated(opened.run_id, "KILLED")
    again = studies.begin(tracking, StudyDesign(), dataclasses.replace(sweep, threads=2))
    assert (again.run_id, again.threads, again.earlier) == (opened.run_id, 1, folder)
    assert schema.promotion(studies.criteria_of(again.run_id)).min_effect == 0.3
    assert schema.promotion(studies.criteria_of(again.run_id), min_effect=0.2).min_effect == 0.2
    assert mlflow.get_run(again.run_id).data.tags["mlflow.source.git.commit"] == "0" * 40


def test_runs_are_pooled_by_code_and_data_not_by_commit_or_folder(tmp_path):
    def summary(commit, code, folder):
        tags = {"mlflow.source.git.commit": commit, "code.digest": code, "data.fingerprint": "d"}
        with mlflow.start_run(tags=tags) as run:
            mlflow.log_params({"model": "relu", "seed": 1, "data.dir": folder})
        return study_runs.run_summary(mlflow.get_run(run.info.run_id))

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    first = summary("a", "c", "/here")
    assert first.settings == summary("b", "c", "/there").settings
    assert first.settings != summary("a", "e", "/here").settings
