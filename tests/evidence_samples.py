"""Runs and layer health with known numbers, for the tests of evidence and reports."""

import numpy as np

from fmnist.evidence.layer_health import QUANTITIES
from fmnist.evidence.pooling import RunSummary

ACCURACY = {"relu": (0.86, 0.87, 0.865, 0.858), "selu": (0.88, 0.889, 0.886, 0.879)}


def run_summary(model, seed, accuracy, status="FINISHED", **changes):
    """A run; `changes` are of its params and provenance, with _ for the dot."""
    params = {"model": model, "model.activation": model, "seed": str(seed), "training.epochs": "5"}
    provenance = {"data.fingerprint": "abc", "engine": "compiled"}
    metrics = {"best_val_accuracy": accuracy, "best_test_accuracy": (accuracy or 0) - 0.01}
    metrics |= {"best_epoch": 4, "parameters": 271410, "epoch_seconds": 1.1}
    for key, value in changes.items():
        key = key.replace("_", ".")
        (provenance if key in provenance else params)[key] = value
    metrics = metrics if accuracy else {}
    return RunSummary(f"{model}-{seed}", status, params, provenance, metrics, "")


def finished_runs():
    """Four seeds of relu and of selu."""
    return [run_summary(m, s, a) for m, values in ACCURACY.items() for s, a in enumerate(values)]


def layer_health(gradient, signal, dead=0.0, epochs=2):
    """Two equal seeds of three hidden layers and an output layer; gradient, signal before epoch 1.

    Shaped (2, epochs + 1, 4, quantities).
    """
    values = np.ones((2, epochs + 1, 4, len(QUANTITIES)))
    values[:, 0, :3, QUANTITIES.index("gradient_norm")] = gradient
    values[:, 0, :3, QUANTITIES.index("activation_std")] = signal
    values[..., QUANTITIES.index("dead_units")] = dead
    return values
