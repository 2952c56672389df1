"""Pictures are drawn here, so that none costs a result: one that fails is a warning."""

import io
import logging
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from fmnist.common.errors import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Drawing = Callable[[], "Figure"]
Drawn = TypeVar("Drawn")

log = logging.getLogger(__name__)


def rendered(drawings: Mapping[str, Drawing], tight: bool = False) -> dict[str, bytes]:
    """Return the PNG of each drawing by its name, without those that fail.

    `tight` leaves room for long names around the axes, and takes twice the time.
    """
    pictures = {name: drawn(name, partial(png, draw, tight)) for name, draw in drawings.items()}
    return {name: picture for name, picture in pictures.items() if picture}


def drawn(name: str, draw: Callable[[], Drawn]) -> Drawn | None:
    """Return what `draw` draws; None, with a warning, if it fails."""
    try:
        return draw()
    except Exception as error:  # whatever a library makes of a name or a number
        log.warning("the picture %s was not drawn: %s", name, one_line(error))
        return None


def png(draw: Drawing, tight: bool = False) -> bytes:
    """Return a picture as PNG; its texts are plain: a `$` in a name begins no formula."""
    from matplotlib import rc_context  # only now: the first epoch does not wait for it

    content = io.BytesIO()
    with rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # it draws a box in its place
        box = "tight" if tight else None
        draw().savefig(content, format="png", dpi=110, bbox_inches=box)
    return content.getvalue()
