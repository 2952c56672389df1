"""Image files converted to what the model was trained on: grey, bright on black, of its size."""

import io
import mimetypes
import re
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter, ImageOps, ImageStat, UnidentifiedImageError

from fmnist.common.errors import ImageError

STANDARD_INPUT = "-"
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")  # as Pillow names them
READABLE = "a PNG, JPEG, WebP, GIF or .npy file"
NUMPY = b"\x93NUMPY"  # how an .npy file begins
OTHERS = {
    rb"....ftyp(heic|heix|hevc|mif1|msf1)": "a HEIC picture",
    rb"....ftypavi[fs]": "an AVIF picture",
    rb"BM": "a BMP picture",
    rb"II\*\0|MM\0\*": "a TIFF picture",
    rb"%PDF": "a PDF document",
    rb"\0\x05\x16\x07": "a file of macOS beside the real one",
    rb"PK\x03\x04": "a ZIP archive",
    rb"\x1f\x8b": "a gzip archive",
    rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<svg": "an SVG drawing",
    rb"\s*<(!doctype html|html)": "a web page",
}
"""What a file of another kind is, by a pattern of its first bytes."""

TOLERANCE = 0.05 * 255  # a colour within 5 % of the largest intensity is the background's
Image.MAX_IMAGE_PIXELS = 50_000_000  # of a large camera; such a picture takes about 1 GB here


Images = NDArray[np.uint8]
Colour = tuple[int, int, int]


def files_of(names: Iterable[str]) -> list[str]:
    """Replace each folder by the images in it, test2 before test10; hidden files are left out.

    Raises:
        ImageError: if a folder has no image.
    """
    files: list[str] = []
    for name in names:
        folder = Path(name)
        if not folder.is_dir():
            files.append(name)
            continue
        inside = [str(file) for file in folder.iterdir() if _is_image(file)]
        if not inside:
            raise ImageError(f"{name}: no picture and no .npy in this folder")
        files += sorted(inside, key=_natural)
    return files


def _is_image(file: Path) -> bool:
    """Tell by its name whether a file is meant as an image, also as one that cannot be read."""
    kind = mimetypes.guess_type(file.name)[0] or ""
    named = kind.startswith("image/") or file.suffix.lower() in (".npy", ".webp")
    return named and not file.name.startswith(".")


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]+)", name)  # text, number, text ...
    return [(int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)]


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
    picture = _opaque(_picture(name, content))
    if not _edges(picture, _background(picture)):
        raise ImageError(f"{name}: shows nothing: it is of one colour")
    return like_the_data_set(picture, shape)[np.newaxis]


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
    """Convert an RGB photograph of one article before a plain background to (height, width).

    As for Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747, section 2): trim the edges that have
    the background's colour, shrink the longest edge to the canvas by leaving pixels out, sharpen,
    centre, negate, and turn grey. Their backgrounds are all white; here a dark one is not
    negated. A picture that has the size already is neither trimmed nor sharpened.
    """
    height, width = shape
    background = _background(picture)
    has_size = picture.size == (width, height)
    if not has_size:
        trimmed = picture.crop(_edges(picture, background))
        picture = _fit(trimmed, width, height, background)
    image = np.asarray(picture.convert("L"))
    black = int(np.asarray(Image.new("RGB", (1, 1), background).convert("L"))[0, 0])
    if black > 127:
        image, black = 255 - image, 255 - black
    return image if has_size else np.maximum(image, black) - np.uint8(black)


def _opaque(picture: Image.Image) -> Image.Image:
    """Put a picture on white where it is transparent; on black if what it shows is bright."""
    layered = picture.convert("RGBA")
    opacity = layered.getchannel("A")
    is_bright = opacity.getbbox() and ImageStat.Stat(layered.convert("L"), opacity).mean[0] > 127
    is_opaque = opacity.histogram()[255] == picture.width * picture.height
    ground = "black" if is_bright and not is_opaque else "white"
    return Image.alpha_composite(Image.new("RGBA", layered.size, ground), layered).convert("RGB")


def _background(picture: Image.Image) -> Colour:
    corners = np.asarray(picture)[[0, 0, -1, -1], [0, -1, 0, -1]]
    red, green, blue = map(int, np.median(corners, axis=0))
    return red, green, blue


def _edges(picture: Image.Image, background: Colour) -> tuple[int, int, int, int] | None:
    """Return left, top, right and bottom of what has not the background's colour, if anything."""
    distance = ImageChops.difference(picture, Image.new("RGB", picture.size, background))
    return distance.point(lambda value: 255 * (value > TOLERANCE)).getbbox()


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
            opened = Image.open(io.BytesIO(content), formats=FORMATS)
            picture = ImageOps.exif_transpose(opened)
        return _in_8_bits(picture) if picture.mode.startswith("I") else picture
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: {_what_it_is(content)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name}: has more than {Image.MAX_IMAGE_PIXELS:,} pixels") from error
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise ImageError(f"{name}: is damaged: {error}") from error


def _in_8_bits(picture: Image.Image) -> Image.Image:
    """Return a picture of up to 16 bits by the upper 8 of those that it uses; cameras use 12."""
    values = np.asarray(picture).astype(np.uint32)
    unused = max(0, int(values.max()).bit_length() - 8)
    return Image.fromarray((values >> unused).astype(np.uint8))


def _what_it_is(content: bytes) -> str:
    if not content:
        return "is empty"
    found = (kind for start, kind in OTHERS.items() if re.match(start, content, re.DOTALL | re.I))
    kind = next(found, None)
    return f"is {kind}, not {READABLE}" if kind else f"is not {READABLE}"
