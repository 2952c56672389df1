"""The picture of layer health: heat maps of layer x epoch, one for each quantity.

Drawn with Pillow, because matplotlib would need a fifth of an epoch for each picture.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colours = tuple[tuple[int, int, int], ...]

RISING: Colours = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
DIVERGING: Colours = ((5, 48, 97), (146, 197, 222), (247, 247, 247), (244, 165, 130), (103, 0, 31))
NOT_FINITE, NOT_YET = (255, 0, 255), (225, 225, 225)


@dataclass(frozen=True)
class Scale:
    """The colours of a quantity, the same in every run, so that runs can be laid side by side."""

    title: str
    low: float
    high: float
    logarithmic: bool = False
    colours: Colours = RISING

    def paint(self, values: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Return the colours (..., 3) of values; beyond the scale they are those of its ends."""
        low, high = np.array([self.low, self.high])
        if self.logarithmic:
            low, high = np.log10([low, high])
            values = np.log10(np.maximum(values, self.low))
        place = (values - low) / (high - low) * (len(self.colours) - 1)
        stops = np.arange(len(self.colours))
        painted = [np.interp(place, stops, channel) for channel in np.array(self.colours).T]
        colours = np.stack(painted, axis=-1)
        colours[~np.isfinite(values)] = NOT_FINITE
        return colours.astype(np.uint8)


SCALES = {
    "gradient_norm": Scale("gradient norm", 1e-4, 1e2, logarithmic=True),
    "update_ratio": Scale("update / weight norm", 1e-3, 1e0, logarithmic=True),
    "activation_mean": Scale("activation mean", -2, 2, colours=DIVERGING),
    "activation_std": Scale("activation std", 1e-3, 1e1, logarithmic=True),
    "dead_units": Scale("dead units", 0, 1),
}
QUANTITIES = tuple(SCALES)
"""What is measured of a layer, in the order of all tables."""

TABLE = "layer_health.json"
"""Where a run keeps it, among its artifacts: epoch, layer and the quantities."""

WIDTH, GAP, LEFT, TOP, BOTTOM = 120, 16, 56, 50, 60  # pixels


def heat_maps(history: NDArray[np.floating], epochs: int) -> Image.Image:
    """Draw each quantity as a heat map: a row for each layer, input on top, a column an epoch.

    Args:
        history: (epochs so far + 1, layers, quantities): before training and after each epoch.
        epochs: how many there will be; those to come are grey.
    """
    _, layers, _ = history.shape
    cell = max(2, min(11, 600 // layers))
    height = cell * layers
    size = (LEFT + len(SCALES) * (WIDTH + GAP), TOP + height + BOTTOM)
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(12)
    for row, text in ((0, "layer 1"), (layers - 1, "output")):
        draw.text((LEFT - 8, TOP + cell * (row + 0.5)), text, "black", font, anchor="rm")
    for place, scale in enumerate(SCALES.values()):
        left = LEFT + place * (WIDTH + GAP)
        cells = np.full((layers, epochs + 1, 3), NOT_YET, np.uint8)
        cells[:, : len(history)] = scale.paint(history[:, :, place].T)
        ramp = np.linspace(scale.low, scale.high, WIDTH)
        if scale.logarithmic:
            ramp = np.geomspace(scale.low, scale.high, WIDTH)
        for content, top, tall in (
            (cells, TOP, height),
            (scale.paint(ramp[None]), TOP + height + 24, 10),
        ):
            image.paste(
                Image.fromarray(content).resize((WIDTH, tall), Image.Resampling.NEAREST),
                (left, top),
            )
        below = TOP + height + 4
        for text, at, anchor in (
            (scale.title, (left, TOP - 22), "la"),
            ("epoch 0", (left, below), "la"),
            (str(epochs), (left + WIDTH, below), "ra"),
            (f"{scale.low:g}", (left, below + 32), "la"),
            (f"{scale.high:g}", (left + WIDTH, below + 32), "ra"),
        ):
            draw.text(at, text, "black", font, anchor=anchor)
    draw.text((LEFT, 6), f"Layer health up to epoch {len(history) - 1}", "black", font)
    return image
