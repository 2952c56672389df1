"""The colours of the heat maps, read from their pixels."""

import numpy as np

from fmnist.evidence.layer_health import QUANTITIES
from fmnist.reports.layer_health_maps import (
    HEIGHT,
    LEFT,
    NOT_FINITE,
    NOT_YET,
    RISING,
    SCALES,
    TOP,
    WIDTH,
    heat_maps,
)


def test_a_cell_has_the_colour_of_its_value():
    history = np.zeros((2, 4, len(QUANTITIES)))
    history[1, 0] = np.nan
    history[1, 1] = [scale.high for scale in SCALES.values()]
    image = heat_maps(history, epochs=3)  # columns: two epochs measured, two to come

    def pixel(row, column):  # of the first map
        x, y = LEFT + (2 * column + 1) * WIDTH // 8, TOP + (2 * row + 1) * HEIGHT // 8
        return image.getpixel((x, y))

    assert pixel(0, 0) == RISING[0]
    assert pixel(0, 1) == NOT_FINITE
    assert pixel(1, 1) == RISING[-1]
    assert pixel(0, 2) == pixel(3, 3) == NOT_YET


def test_every_quantity_has_its_map():
    assert tuple(SCALES) == QUANTITIES
