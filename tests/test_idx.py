"""The IDX reader: what it reads, and every damaged file that it must name and never use."""

import gzip
import hashlib
import struct
import tracemalloc

import numpy as np
import pytest

from conftest import write_idx
from fmnist.errors import DataError
from fmnist.idx import DIMENSIONS, read_folder

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize("zipped", [False, True])
def test_reads_what_was_written(tmp_path, small_arrays, zipped):
    files = read_folder(write_idx(tmp_path, small_arrays, zipped))
    for array, name in zip(files, DIMENSIONS, strict=True):
        assert array.dtype == np.uint8
        np.testing.assert_array_equal(array, small_arrays[name])


def test_a_sum_that_fits_is_accepted_and_another_named_with_both(tmp_path, small_arrays):
    write_idx(tmp_path, small_arrays)
    sums = {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in DIMENSIONS}
    read_folder(tmp_path, sums)
    altered = bytearray((tmp_path / IMAGES).read_bytes())
    altered[-1] ^= 1
    (tmp_path / IMAGES).write_bytes(altered)
    with pytest.raises(DataError, match="altered") as caught:
        read_folder(tmp_path, sums)
    assert sums[IMAGES] in str(caught.value)
    assert hashlib.sha256(altered).hexdigest() in str(caught.value)


def header(*shape: int) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, b"", "not an IDX file"),
        (IMAGES, b"hello world, this is text", "not an IDX file"),
        (IMAGES, header(40, 6, 5)[:10], "cut short within its header"),
        (IMAGES, header(40, 6, 5) + bytes(40 * 30 - 1), "cut short"),
        (IMAGES, header(40, 6, 5) + bytes(40 * 30 + 1), "holds more than the 1200 values"),
        (IMAGES, header(0, 6, 5), "is empty"),
        (IMAGES, header(40) + bytes(40), r"holds labels \(1 dimension\), expected images"),
        (LABELS, header(40, 6, 5) + bytes(1200), r"holds images \(3 dimensions\), expected labels"),
        (LABELS, header(39) + bytes(39), "40 train images, but 39 labels"),
        (IMAGES, header(65535, 65535, 1) + bytes(9), "too small for the 4294836225 values"),
        (f"{IMAGES}.gz", gzip.compress(header(40, 6, 5) + bytes(1200))[:-9], "cut short"),
        (f"{IMAGES}.gz", gzip.compress(bytes(99))[:-20] + bytes(20), "damaged or cut short"),
        (f"{IMAGES}.gz", gzip.compress(header(65535, 65535, 1)), "too small for the 4294836225"),
        ("t10k-images-idx3-ubyte", header(12, 5, 6) + bytes(360), r"\(6, 5\).*\(5, 6\) pixels"),
    ],
)
def test_a_bad_file_is_named_and_not_used(tmp_path, small_arrays, name, content, message):
    write_idx(tmp_path, small_arrays)
    (tmp_path / name.removesuffix(".gz")).unlink()
    (tmp_path / name).write_bytes(content)
    tracemalloc.start()
    with pytest.raises(DataError, match=message) as caught:
        read_folder(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    assert str(tmp_path) in str(caught.value)


def test_missing_folders_and_files_are_named(tmp_path, small_arrays):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match=f"{IMAGES}\\[.gz\\] is missing"):
        read_folder(tmp_path)
    write_idx(tmp_path, small_arrays)
    (tmp_path / LABELS).unlink()
    with pytest.raises(DataError, match=f"{LABELS}\\[.gz\\] is missing"):
        read_folder(tmp_path)
