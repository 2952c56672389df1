"""What a run prints at its end: its scores, and what to type next."""

from typing import TYPE_CHECKING

from fmnist.common.terminal import table
from fmnist.config.schema import SCORES, Config
from fmnist.tracking.run_inputs import RunInputs
from fmnist.tracking.store import Run

if TYPE_CHECKING:
    from fmnist.runs.run import TrainedRun


def scores(result: "TrainedRun", config: Config) -> str:
    """Return the scores of the best and the last weights, and what best means."""
    epochs = {"best": result.scores.get("best_epoch"), "last": len(result.history["loss"])}
    rows = [
        [f"{weights} (epoch {epoch})", *(result.scores[f"{weights}_{name}"] for name in SCORES)]
        for weights, epoch in epochs.items()
        if epoch
    ]
    return table(["weights", *SCORES], rows) + _meaning_of_best(config)


def _meaning_of_best(config: Config) -> str:
    """Say which epoch is the best one, and what chooses it; nothing without a checkpoint."""
    checkpoint = config.callbacks.get("checkpoint")
    if not checkpoint:
        return ""
    monitor, mode = checkpoint["monitor"], checkpoint.get("mode", "auto")
    highest = mode == "max" or (mode == "auto" and "acc" in monitor)
    which = f"the epoch with the {'highest' if highest else 'lowest'} {monitor}"
    return f"\nbest: {which}; callbacks.checkpoint.monitor chooses"


def next_commands(inputs: RunInputs, run: Run) -> str:
    """Say where to look at a run, and how to ask its model; a study compares its runs instead."""
    look = inputs.store.look_at(run)
    if inputs.context.study_run_id:
        return look
    command = f"{inputs.store.variable}python -m fmnist predict --run {run.info.run_id} IMAGE"
    return f"{look}\nask it:      {command}"
