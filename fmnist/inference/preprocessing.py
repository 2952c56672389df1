"""Image files converted to what the model was trained on: grey, bright on black, of its size."""

import io
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter, ImageOps, UnidentifiedImageError

from fmnist.common.errors import ImageError

STANDARD_INPUT = "-"
SUFFIXES = (".png", ".jpg", ".jpeg", ".npy")  # of the files used in a folder
NUMPY = b"\x93NUMPY"  # how an .npy file begins
TOLERANCE = 0.05 * 255  # a colour within 5 % of the largest intensity is the background's
Image.MAX_IMAGE_PIXELS = 50_000_000  # of a large camera; such a picture takes about 1 GB here

Images = NDArray[np.uint8]
Colour = tuple[int, int, int]


def files_of(names: Iterable[str]) -> list[str]:
    """Replace each folder by the images in it, sorted by name; raise ImageError if it has none."""
    files: list[str] = []
    for name in names:
        folder = Path(name)
        if not folder.is_dir():
            files.append(name)
            continue
        inside = [str(file) for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES]
        if not inside:
            raise ImageError(f"{name}: no {', '.join(SUFFIXES)} in this folder")
        files += inside
    return files


def read(name: str, shape: tuple[int, int]) -> Images:
    """Return the images (n, height, width) of a file; an .npy file may hold several.

    Arrays are used as they are, pictures are converted by `like_the_data_set`. `shape` is what the
    model takes: height and width.

    Raises:
        ImageError: if the file cannot be read, or holds no such image.
    """
    content = _content(name)
    if content.startswith(NUMPY):
        return _array(name, content, shape)
    return like_the_data_set(_picture(name, content), shape)[np.newaxis]


def _content(name: str) -> bytes:
    if name == STANDARD_INPUT:
        return sys.stdin.buffer.read()
    path = Path(name)
    try:
        if path.exists() and not path.is_file():  # a device or a pipe may never end
            raise ImageError(f"{name}: is not a file; use {STANDARD_INPUT} for standard input")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{name}: {error.strerror}") from error


def like_the_data_set(picture: Image.Image, shape: tuple[int, int]) -> Images:
    """Convert a photograph of one article before a plain background to an image (height, width).

    As for Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747, section 2): trim the edges that have
    the background's colour, shrink the longest edge to the canvas by leaving pixels out, sharpen,
    centre, negate, and turn grey. Their backgrounds are all white; here a dark one is not
    negated. A picture that has the size already is neither trimmed nor sharpened.
    """
    height, width = shape
    coloured = _on_white(picture)
    background = _background(coloured)
    has_size = coloured.size == (width, height)
    if not has_size:
        coloured = _fit(_trim(coloured, background), width, height, background)
    image = np.asarray(coloured.convert("L"))
    black = int(np.asarray(Image.new("RGB", (1, 1), background).convert("L"))[0, 0])
    if black > 127:
        image, black = 255 - image, 255 - black
    return image if has_size else np.maximum(image, black) - np.uint8(black)


def _on_white(picture: Image.Image) -> Image.Image:
    layered = picture.convert("RGBA")
    white = Image.new("RGBA", layered.size, "white")
    return Image.alpha_composite(white, layered).convert("RGB")


def _background(picture: Image.Image) -> Colour:
    corners = np.asarray(picture)[[0, 0, -1, -1], [0, -1, 0, -1]]
    red, green, blue = map(int, np.median(corners, axis=0))
    return red, green, blue


def _trim(picture: Image.Image, background: Colour) -> Image.Image:
    """Cut off the edges that have the background's colour; leave an empty picture as it is."""
    distance = ImageChops.difference(picture, Image.new("RGB", picture.size, background))
    return picture.crop(distance.point(lambda value: 255 * (value > TOLERANCE)).getbbox())


def _fit(picture: Image.Image, width: int, height: int, background: Colour) -> Image.Image:
    scale = min(width / picture.width, height / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    small = picture.resize(size, Image.Resampling.NEAREST)
    canvas = Image.new("RGB", (width, height), background)
    corner = (width - size[0]) // 2, (height - size[1]) // 2
    canvas.paste(small.filter(ImageFilter.UnsharpMask(radius=1)), corner)
    return canvas


def _array(name: str, content: bytes, shape: tuple[int, int]) -> Images:
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # a damaged header raises many kinds
        raise ImageError(f"{name}: is not a readable array") from error
    if not array.size:
        raise ImageError(f"{name}: holds no image")
    if array.dtype != np.uint8 or array.shape[-2:] != shape or array.ndim not in (2, 3):
        expected = f"(n, {shape[0]}, {shape[1]}) uint8"
        raise ImageError(f"{name}: is {array.shape} {array.dtype}, must be {expected}")
    images: Images = array.reshape(-1, *shape)
    return images


def _picture(name: str, content: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a picture with damaged EXIF data may be good
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
            picture = ImageOps.exif_transpose(opened)
        if picture.mode.startswith("I"):  # 16 bits
            picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        return picture
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: is not a PNG, JPEG or .npy file") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name}: has more than {Image.MAX_IMAGE_PIXELS:,} pixels") from error
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise ImageError(f"{name}: is damaged: {error}") from error
