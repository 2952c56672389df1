"""Why variants differ: what their layers' health says, in words and as a table."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fmnist.health_maps import QUANTITIES

MUCH = 10.0
"""From this ratio of first to last hidden layer on a signal or a gradient fades or explodes; a
gradient whose norm is below its inverse is faint."""

Health = NDArray[np.float64]
COLUMNS = ["layer health", "when", "gradient norm", "first / last layer", "activation std", "dead"]


def moments(health: Health) -> dict[str, int]:
    """Return the epochs to look at by their name: before training, the first, the last."""
    last = health.shape[1] - 1
    return {"before training": 0, "after epoch 1": 1} | (
        {f"after epoch {last}": last} if last > 1 else {}
    )


def rows(healths: Mapping[str, Health]) -> list[list[str]]:
    """Return the rows to `COLUMNS`: medians over the seeds.

    Args:
        healths: of each variant (seeds, epochs + 1, layers, quantities).
    """
    table = []
    for name, health in healths.items():
        for when, epoch in moments(health).items():
            gradient, signal = (
                _ends(health, quantity, epoch) for quantity in ("gradient_norm", "activation_std")
            )
            dead = np.nanmedian(_of(health, "dead_units")[:, epoch, :-1].mean(axis=-1))
            table.append(
                [
                    name,
                    when,
                    f"{_gradient_norm(health, epoch):.3g}",
                    f"{gradient[0] / gradient[1]:.2g}",
                    f"{signal[0]:.2g} to {signal[1]:.2g}",
                    f"{dead:.0%}",
                ]
            )
    return table


def sentences(healths: Mapping[str, Health]) -> list[str]:
    """Say of each variant how signal and gradient pass through its layers, at first and later."""
    said = []
    for name, health in healths.items():
        passages: dict[str, list[str]] = {}
        for when, epoch in moments(health).items():
            passages.setdefault(_passage(health, epoch), []).append(when)
        parts = [f"{' and '.join(when)}, {passage}" for passage, when in passages.items()]
        said.append(f"{name}: {'; '.join(parts)}.")
    return said


def _passage(health: Health, epoch: int) -> str:
    first, last = _ends(health, "activation_std", epoch)
    signal = "the signal keeps its size"
    if first >= MUCH * last:
        signal = f"the signal fades {first / last:.0f}-fold on its way to the last hidden layer"
    elif last >= MUCH * first:
        signal = f"the signal grows {last / first:.0f}-fold on its way to the last hidden layer"
    first, last = _ends(health, "gradient_norm", epoch)
    norm = _gradient_norm(health, epoch)
    gradient = "the gradient reaches all layers alike"
    if norm * MUCH <= 1:
        gradient = f"the gradient is faint in all layers, its norm {norm:.1g}"
    if first >= MUCH * last:
        gradient = f"the gradient explodes {first / last:.0f}-fold on its way back to the first"
    elif last >= MUCH * first:
        gradient = f"the gradient vanishes {last / first:.0f}-fold on its way back to the first"
    return f"{signal} and {gradient}"


def _of(health: Health, quantity: str) -> NDArray[np.float64]:
    """Return one quantity (seeds, epochs + 1, layers)."""
    return health[..., QUANTITIES.index(quantity)]


def _gradient_norm(health: Health, epoch: int) -> float:
    """Return the norm of the gradient for all layers, median over the seeds."""
    norms = np.linalg.norm(_of(health, "gradient_norm")[:, epoch], axis=-1)
    return float(np.nanmedian(norms))


def _ends(health: Health, quantity: str, epoch: int) -> tuple[float, float]:
    """Return a quantity in the first and the last hidden layer, medians over the seeds."""
    hidden = np.nanmedian(_of(health, quantity)[:, epoch, :-1], axis=0)
    return float(hidden[0]), float(hidden[-1])
