"""A study in the tracking store, read back."""

import mlflow

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
