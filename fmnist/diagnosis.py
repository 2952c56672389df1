"""Why variants differ: what their layers' health says, in words and as a table."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fmnist.health_maps import QUANTITIES

MUCH = 10.0
"""From this ratio of first to last hidden layer on a signal or a gradient fades or explodes."""

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
            ends = _ends(health, epoch)
            gradient, signal = ends["gradient_norm"], ends["activation_std"]
            total = np.nanmedian(np.linalg.norm(_of(health, "gradient_norm")[:, epoch], axis=-1))
            dead = np.nanmedian(_of(health, "dead_units")[:, epoch, :-1].mean(axis=-1))
            table.append(
                [
                    name,
                    when,
                    f"{total:.2g}",
                    f"{gradient[0] / gradient[1]:.2g}",
                    f"{signal[0]:.2g} to {signal[1]:.2g}",
                    f"{dead:.0%}",
                ]
            )
    return table


def sentences(healths: Mapping[str, Health]) -> list[str]:
    """Say of each variant how signal and gradient pass through its layers, at first and later."""
    return [
        f"{name}: "
        + "; ".join(f"{when} {_passage(h, epoch)}" for when, epoch in moments(h).items())
        for name, h in healths.items()
    ]


def _passage(health: Health, epoch: int) -> str:
    ends = _ends(health, epoch)
    first, last = ends["activation_std"]
    signal = "keeps its size"
    if first >= MUCH * last:
        signal = f"fades {first / last:.0f}-fold on the way to the output"
    elif last >= MUCH * first:
        signal = f"grows {last / first:.0f}-fold on the way to the output"
    first, last = ends["gradient_norm"]
    gradient = "reaches all layers alike"
    if first >= MUCH * last:
        gradient = f"explodes {first / last:.0f}-fold on the way to the input"
    elif last >= MUCH * first:
        gradient = f"vanishes {last / first:.0f}-fold on the way to the input"
    return f"the signal {signal} and the gradient {gradient}"


def _of(health: Health, quantity: str) -> NDArray[np.float64]:
    """Return one quantity (seeds, epochs + 1, layers)."""
    return health[..., QUANTITIES.index(quantity)]


def _ends(health: Health, epoch: int) -> dict[str, tuple[float, float]]:
    """Return signal and gradient in the first and the last hidden layer, medians over the seeds."""
    ends = {}
    for quantity in ("activation_std", "gradient_norm"):
        hidden = np.nanmedian(_of(health, quantity)[:, epoch, :-1], axis=0)
        ends[quantity] = float(hidden[0]), float(hidden[-1])
    return ends
