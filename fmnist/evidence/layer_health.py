"""What the health of the layers says about a variant, in sentences and as a table."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

QUANTITIES = ("gradient_norm", "update_ratio", "activation_mean", "activation_std", "dead_units")
"""What is measured of a layer, in the order of all tables."""

TABLE = "layer_health.json"
"""The artifact in which a run keeps it: epoch, layer and the quantities."""

Health = NDArray[np.float64]
"""Of a variant (seeds, epochs + 1, layers, quantities); NaN after a seed's last epoch."""

STAGES = ("before training", "after epoch 1", "at the end")
COLUMNS = ("layer health", "when", "gradient norm", "first / last", "activation std", "dead units")
NOTE = (
    "Layer health: on fixed training images, medians over the seeds; gradients are those of the "
    "weights; first / last and dead units are of the hidden layers."
)

THRESHOLD = 10.0  # ratios from here on are reported


def stages(health: Health) -> dict[str, Health]:
    """Return the layers (seeds, layers, quantities) at each of `STAGES`; each seed's own end."""
    ends = np.isfinite(health).any(axis=(2, 3)).sum(axis=1) - 1
    last = health[np.arange(len(health)), ends]
    return dict(zip(STAGES, (health[:, 0], health[:, 1], last), strict=True))


def rows(healths: Mapping[str, Health]) -> list[list[str]]:
    """Return the rows to `COLUMNS` for all variants at all stages."""
    return [
        [name, stage, *_cells(layers)]
        for name, health in healths.items()
        for stage, layers in stages(health).items()
    ]


def sentences(healths: Mapping[str, Health]) -> list[str]:
    """Say of each variant how signal and gradient change from layer to layer, stage by stage."""
    return [f"{name}: {_description(health)}." for name, health in healths.items()]


def _cells(layers: Health) -> list[str]:
    first, last = _first_and_last(layers, "activation_std")
    dead = np.nanmedian(layers[:, :-1, QUANTITIES.index("dead_units")].mean(axis=-1))
    return [
        f"{_gradient_norm(layers):.3g}",
        f"{_first_to_last(layers, 'gradient_norm'):.2g}",
        f"{first:.2g} to {last:.2g}",
        f"{dead:.0%}",
    ]


def _description(health: Health) -> str:
    whens: dict[str, list[str]] = {}
    for stage, layers in stages(health).items():
        whens.setdefault(_stage_description(layers, stage), []).append(stage)
    return "; ".join(f"{' and '.join(when)}, {text}" for text, when in whens.items())


def _stage_description(layers: Health, stage: str) -> str:
    shrinkage = _first_to_last(layers, "activation_std")
    change = "keeps its size"
    if shrinkage >= THRESHOLD:
        change = f"shrinks {_fold(shrinkage)}"
    elif shrinkage <= 1 / THRESHOLD:
        change = f"grows {_fold(shrinkage)}"
    # A small gradient later on may mean success, unless the signal still shrinks.
    small_matters = stage == STAGES[0] or shrinkage >= THRESHOLD
    gradient = _gradient_description(layers, small_matters)
    return f"the signal {change} from the first to the last hidden layer and {gradient}"


def _gradient_description(layers: Health, small_matters: bool) -> str:
    ratio, norm = _first_to_last(layers, "gradient_norm"), _gradient_norm(layers)
    if ratio >= THRESHOLD:
        return f"the weights' gradient is {_fold(ratio)} larger in the first than in the last"
    if ratio == 0:
        return "no gradient reaches the weights of the first"
    if ratio <= 1 / THRESHOLD:
        return f"the weights' gradient is {_fold(ratio)} smaller in the first"
    if norm <= 1 / THRESHOLD and small_matters:
        return f"the weights' gradient is small in all (norm {norm:.1g})"
    return "the weights' gradient is of one size"


def _fold(ratio: float) -> str:
    """Say how far a ratio is from 1: "3-fold" for 3 and for 1 / 3."""
    return f"{max(ratio, 1 / ratio):.0f}-fold" if 0 < ratio < np.inf else "without bound"


def _gradient_norm(layers: Health) -> float:
    norms = np.linalg.norm(layers[..., QUANTITIES.index("gradient_norm")], axis=-1)
    return float(np.nanmedian(norms))


def _first_and_last(layers: Health, quantity: str) -> NDArray[np.float64]:
    """Return a quantity in the first and the last hidden layer (2,)."""
    hidden = np.nanmedian(layers[:, :-1, QUANTITIES.index(quantity)], axis=0)
    return hidden[[0, -1]]


def _first_to_last(layers: Health, quantity: str) -> float:
    """Return first / last: infinite, or NaN, where all units of a layer are dead."""
    first, last = _first_and_last(layers, quantity)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(first / last)
