"""What is reported of an epoch."""

import numpy as np
import pytest

from fmnist.tracking.training_log import as_written


@pytest.mark.parametrize(
    ("value", "written"),
    [(float(np.float32(0.3)), 0.3), (1 / 3, 1 / 3), (0.01, 0.01), (1e300, 1e300)],
)
def test_only_a_float32_is_written_as_one(value, written):
    assert as_written(value) == written
