"""Why variants differ: what their layers' health says, in words and as a table."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

QUANTITIES = ("gradient_norm", "update_ratio", "activation_mean", "activation_std", "dead_units")
"""What is measured of a layer, in the order of all tables."""

TABLE = "layer_health.json"
"""Where a run keeps it, among its artifacts: epoch, layer and the quantities."""

Health = NDArray[np.float64]
"""Of a variant (seeds, epochs + 1, layers, quantities); NaN where a seed has stopped before."""

STAGES = ("before training", "after epoch 1", "at the end")
COLUMNS = ("layer health", "when", "gradient norm", "first / last", "activation std", "dead units")
NOTE = (
    "Layer health: on fixed training images, medians over the seeds; gradients are those of the "
    "weights; first / last and dead units are of the hidden layers."
)

THRESHOLD = 10.0  # a ratio from here on is worth a word


def stages(health: Health) -> dict[str, Health]:
    """Return the layers (seeds, layers, quantities) at each of `STAGES`; each seed's own end."""
    ends = np.isfinite(health).any(axis=(2, 3)).sum(axis=1) - 1
    last = health[np.arange(len(health)), ends]
    return dict(zip(STAGES, (health[:, 0], health[:, 1], last), strict=True))


def rows(healths: Mapping[str, Health]) -> list[list[str]]:
    """Return the rows to `COLUMNS` for all variants at all stages."""
    table = []
    for name, health in healths.items():
        for when, layers in stages(health).items():
            gradient, signal = (_ends(layers, q) for q in ("gradient_norm", "activation_std"))
            dead = np.nanmedian(_of(layers, "dead_units")[:, :-1].mean(axis=-1))
            table.append(
                [
                    name,
                    when,
                    f"{_gradient_norm(layers):.3g}",
                    f"{_ratio(*gradient):.2g}",
                    f"{signal[0]:.2g} to {signal[1]:.2g}",
                    f"{dead:.0%}",
                ]
            )
    return table


def sentences(healths: Mapping[str, Health]) -> list[str]:
    """Say of each variant how signal and gradient change from layer to layer, stage by stage."""
    said = []
    for name, health in healths.items():
        passages: dict[str, list[str]] = {}
        for when, layers in stages(health).items():
            passages.setdefault(_passage(layers, when), []).append(when)
        parts = [f"{' and '.join(when)}, {passage}" for passage, when in passages.items()]
        said.append(f"{name}: {'; '.join(parts)}.")
    return said


def _passage(layers: Health, when: str) -> str:
    """Describe layers (seeds, layers, quantities)."""
    ratio = _ratio(*_ends(layers, "activation_std"))
    signal = "the signal keeps its size from the first to the last hidden layer"
    faded = ratio >= THRESHOLD
    if faded:
        signal = f"the signal shrinks {_times(ratio)} from the first to the last hidden layer"
    elif ratio * THRESHOLD <= 1:
        signal = (
            f"the signal grows {_times(_ratio(1, ratio))} from the first to the last hidden layer"
        )
    ratio, norm = _ratio(*_ends(layers, "gradient_norm")), _gradient_norm(layers)
    gradient = "the weights' gradient is of one size"
    if ratio >= THRESHOLD:
        gradient = f"the weights' gradient is {_times(ratio)} larger in the first than in the last"
    elif ratio == 0:
        gradient = "no gradient reaches the weights of the first"
    elif ratio * THRESHOLD <= 1:
        gradient = f"the weights' gradient is {_times(_ratio(1, ratio))} smaller in the first"
    elif norm * THRESHOLD <= 1 and (when == STAGES[0] or faded):  # else it may mean success
        gradient = f"the weights' gradient is small in all (norm {norm:.1g})"
    return f"{signal} and {gradient}"


def _times(ratio: float) -> str:
    return f"{ratio:.0f}-fold" if np.isfinite(ratio) else "without bound"


def _of(layers: Health, quantity: str) -> NDArray[np.float64]:
    """Return one quantity (seeds, layers)."""
    return layers[..., QUANTITIES.index(quantity)]


def _gradient_norm(layers: Health) -> float:
    """Return the norm of the gradient of all weights."""
    return float(np.nanmedian(np.linalg.norm(_of(layers, "gradient_norm"), axis=-1)))


def _ends(layers: Health, quantity: str) -> NDArray[np.float64]:
    """Return a quantity in the first and the last hidden layer (2,)."""
    hidden = np.nanmedian(_of(layers, quantity)[:, :-1], axis=0)
    return hidden[[0, -1]]


def _ratio(one: float, other: float) -> float:
    """Return one / other: infinite, or NaN, where all units of a layer are dead."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.float64(one) / np.float64(other))
