"""The picture of a run's layer health: a heat map of layer x epoch for each quantity.

Drawn with Pillow: matplotlib takes a fifth of an epoch for each picture.
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
    """The colours of a quantity, the same in every run, so that runs can be compared."""

    title: str
    low: float
    high: float
    logarithmic: bool = False
    colours: Colours = RISING

    def paint(self, values: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Return the colours (..., 3) of values (...); those beyond the scale get its ends'."""
        low, high = np.array([self.low, self.high])
        if self.logarithmic:
            low, high = np.log10([low, high])
            values = np.log10(np.maximum(values, self.low))
        position = (values - low) / (high - low) * (len(self.colours) - 1)
        stops = np.arange(len(self.colours))
        painted = [np.interp(position, stops, channel) for channel in np.array(self.colours).T]
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
MAPS_IN_ROW = 3  # MLflow shows an image in a square
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 150, 200, 60, 50, 60  # pixels, of a map and around it
GAP = 16


def heat_maps(history: NDArray[np.floating], epochs: int) -> Image.Image:
    """Draw each quantity as a heat map: a row for each layer, input on top, a column an epoch.

    `history` (epochs so far + 1, layers, quantities) is from before training and after each epoch;
    of the planned `epochs` those to come are grey.
    """
    rows = -(-len(SCALES) // MAPS_IN_ROW)
    size = LEFT + MAPS_IN_ROW * (WIDTH + GAP), rows * (TOP + HEIGHT + BOTTOM)
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    draw.font = ImageFont.load_default(12)
    draw.text((LEFT, 6), f"Layer health up to epoch {len(history) - 1}", "black")
    for index, scale in enumerate(SCALES.values()):
        row, column = divmod(index, MAPS_IN_ROW)
        left, top = LEFT + column * (WIDTH + GAP), row * (TOP + HEIGHT + BOTTOM) + TOP
        values = history[:, :, index].T
        spaced = np.geomspace if scale.logarithmic else np.linspace
        ramp = scale.paint(spaced(scale.low, scale.high, 100)[None])
        done = max(1, round(WIDTH * len(history) / (epochs + 1)))
        draw.rectangle((left, top, left + WIDTH - 1, top + HEIGHT - 1), NOT_YET)
        image.paste(_enlarged(scale.paint(values), (done, HEIGHT)), (left, top))
        image.paste(_enlarged(ramp, (WIDTH, 10)), (left, top + HEIGHT + 24))
        _label(draw, scale, (left, top), epochs)
        if column == 0:
            draw.text((left - 8, top), "layer 1", "black", anchor="ra")
            draw.text((left - 8, top + HEIGHT - 12), "output", "black", anchor="ra")
    return image


def _enlarged(cells: NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(cells).resize(size, Image.Resampling.NEAREST)


def _label(draw: ImageDraw.ImageDraw, scale: Scale, corner: tuple[int, int], epochs: int) -> None:
    """Write the title above a map, and the ends of both its axes below."""
    left, top = corner
    below, right = top + HEIGHT + 4, left + WIDTH
    draw.text((left, top - 20), scale.title, "black")
    draw.text((left, below), "epoch 0", "black")
    draw.text((right, below), str(epochs), "black", anchor="ra")
    draw.text((left, below + 32), f"{scale.low:g}", "black")
    draw.text((right, below + 32), f"{scale.high:g}", "black", anchor="ra")
