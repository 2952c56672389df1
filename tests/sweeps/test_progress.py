"""What a sweep prints of its jobs, and how it counts those that never began."""

from fmnist.sweeps.job_state import JobState, clear
from fmnist.sweeps.progress import SweepProgress


def test_jobs_are_counted_against_what_is_planned_which_may_grow(tmp_path, capsys):
    sweep_dir = str(tmp_path)
    progress = SweepProgress(sweep_dir, planned=3, swept={"seed"})
    progress.start()
    JobState(0, ("model=relu", "seed=1"), 4, 9, ended=True, objective=0.5).save(sweep_dir)
    JobState(1, ("model=relu", "seed=2"), ended=True, error="no file").save(sweep_dir)
    progress.stop()
    assert capsys.readouterr().out.splitlines() == [
        "job 1/3  seed=1  val_accuracy 0.5000, ended after epoch 4",
        "job 2/3  seed=2  failed: no file",
    ]
    assert progress.failures() == ["1 of 3 jobs failed, 1 did not begin", "  seed=2: no file"]
    progress.planned = 2
    assert progress.failures()[0] == "1 of 2 jobs failed"
    clear(sweep_dir)
    assert progress.failures() == []
