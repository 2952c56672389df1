"""Read a data set in MNIST's four-file IDX layout, checking everything that the files claim."""

import gzip
import hashlib
import math
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist.common.errors import DataError

GZIP = b"\x1f\x8b"
LARGEST_COMPRESSION = 1032  # of DEFLATE: zlib's technical notes, "maximum compression factor"

DIMENSIONS = {
    "train-images-idx3-ubyte": 3,
    "train-labels-idx1-ubyte": 1,
    "t10k-images-idx3-ubyte": 3,
    "t10k-labels-idx1-ubyte": 1,
}
"""The four files, and how many dimensions the array in each has."""

PARTS = {"train": "train", "t10k": "t10k|test"}
"""What the names of these files have in common, wherever they come from."""

LISTED = 8  # files in a message


class IdxFiles(NamedTuple):
    """The four arrays: images (n, height, width) and labels (n,), all uint8, read-only."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]


def read_folder(folder: Path, sums: Mapping[str, str] | None = None) -> IdxFiles:
    """Read the four files of a folder, each of them plain or gzipped (`.gz`).

    Args:
        folder: where the files lie, named as in `DIMENSIONS`.
        sums: SHA-256 of each file's decompressed content; None: not known.

    Raises:
        DataError: if the folder or a file is missing, damaged, altered or of another kind, or
            if images and labels differ in number.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    arrays = IdxFiles(
        *(_read_file(_find(folder, name), sums[name] if sums else None) for name in DIMENSIONS)
    )
    for part, images, labels in (("train", *arrays[:2]), ("t10k", *arrays[2:])):
        if len(images) != len(labels):
            raise DataError(
                f"{folder}: {len(images)} {part} images, but {len(labels)} labels for them"
            )
    if arrays.train_images.shape[1:] != arrays.test_images.shape[1:]:
        raise DataError(
            f"{folder}: train images are {arrays.train_images.shape[1:]}, "
            f"t10k images {arrays.test_images.shape[1:]} pixels"
        )
    return arrays


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(f"{folder}: {name}[.gz] is missing; {_instead(folder, name)}")


def _instead(folder: Path, name: str) -> str:
    """Say which file may be the missing one, or else what there is."""
    part, kind, _ = name.split("-", 2)
    there = sorted(f"{path.name}{'/' if path.is_dir() else ''}" for path in folder.iterdir())
    words = f"(?i)(?=.*({PARTS[part]})).*{kind}.*[^/]$"
    if similar := [other for other in there if other != name and re.match(words, other)]:
        return f"if it is one of these, rename it: {', '.join(similar[:LISTED])}"
    shown = ", ".join(there[:LISTED]) + (", ..." if len(there) > LISTED else "")
    return f"needed are {', '.join(DIMENSIONS)}; there are {shown or 'none'}"


def _read_file(path: Path, expected_sum: str | None) -> NDArray[np.uint8]:
    try:
        content, shape = _read_content(path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged or cut short: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    digest = hashlib.sha256(content).hexdigest() if expected_sum else None
    if digest != expected_sum:
        raise DataError(
            f"{path}: altered: the content's SHA-256 is {digest}, expected {expected_sum}"
        )
    header_size, size = 4 + 4 * len(shape), math.prod(shape)
    held = len(content) - header_size
    if held != size:
        relation = "more" if held > size else f"{held}, fewer"
        raise DataError(f"{path}: holds {relation} than the {size} values it claims")
    return np.frombuffer(content, np.uint8, offset=header_size).reshape(shape)


def _read_content(path: Path) -> tuple[bytes, tuple[int, ...]]:
    """Return what a file holds, but of more than it claims only one byte, and its shape."""
    with path.open("rb") as file:
        zipped = file.read(2) == GZIP
    with gzip.open(path) if zipped else path.open("rb") as file:
        dimensions = DIMENSIONS[path.name.removesuffix(".gz")]
        header = file.read(4 + 4 * dimensions)
        shape = _parse_header(path, header, dimensions)
        size = math.prod(shape)
        most = path.stat().st_size * (LARGEST_COMPRESSION if zipped else 1)
        if len(header) + size > most:
            raise DataError(f"{path}: cut short: too small for the {size} values it claims")
        file.seek(0)
        try:
            return file.read(len(header) + size + 1), shape
        except MemoryError as error:
            message = f"{path}: the {size} values it claims do not fit into memory"
            raise DataError(message) from error


def _parse_header(path: Path, header: bytes, dimensions: int) -> tuple[int, ...]:
    kinds = {1: "labels (1 dimension)", 3: "images (3 dimensions)"}
    if len(header) < 4 or header[:3] != b"\0\0\x08":  # 8: unsigned bytes
        raise DataError(f"{path}: not an IDX file of unsigned bytes")
    if header[3] != dimensions:
        kind = kinds.get(header[3], f"an array of {header[3]} dimensions")
        raise DataError(f"{path}: holds {kind}, expected {kinds[dimensions]}")
    if len(header) < 4 + 4 * dimensions:
        raise DataError(f"{path}: cut short within its header")
    shape = tuple(int(length) for length in np.frombuffer(header[4:], ">u4"))
    if 0 in shape:
        raise DataError(f"{path}: is empty: it claims the shape {shape}")
    return shape
