"""The IDX reader: what it reads, and every damaged file that it must name and never use."""

import gzip
import hashlib
import math
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conftest import write_idx
from fmnist.common.errors import DataError
from fmnist.data.idx_files import DIMENSIONS, LARGEST_COMPRESSION, read_folder

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
        (f"{IMAGES}.gz", gzip.compress(header(40, 6, 5) + bytes(1200), mtime=0)[:-9], "cut short"),
        (
            f"{IMAGES}.gz",
            gzip.compress(bytes(99), mtime=0)[:-20] + bytes(20),
            "damaged or cut short",
        ),
        (
            f"{IMAGES}.gz",
            gzip.compress(header(65535, 65535, 1), mtime=0),
            "too small for the 4294836225",
        ),
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


ANY = st.binary(max_size=300)
LENGTH = st.sampled_from([0, 1, 5, 6, 40, 41, 2**16, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)
FITTING = st.binary(max_size=1200).map(lambda content: header(40, 6, 5) + content.ljust(1200))
CLAIMING = st.builds(
    lambda lengths, content, times: header(*lengths) + times * content,
    st.lists(LENGTH, max_size=5),
    ANY,
    st.sampled_from([1, 1, 10_000]),
)
PLAIN = ANY | CLAIMING | FITTING
ZIPPED = st.builds(gzip.compress, PLAIN, st.sampled_from([0, 1, 9]))


def damaged(content: bytes, place: float, inserted: bytes, deleted: int) -> bytes:
    """Replace some bytes at a relative place by others."""
    at = int(place * len(content))
    return content[:at] + inserted + content[at + deleted :]


DAMAGED = st.builds(
    damaged, PLAIN | ZIPPED, st.floats(0, 1), st.binary(max_size=4), st.integers(0, 40)
)


@given(content=PLAIN | ZIPPED | DAMAGED)
@example(content=header(2**32 - 1, 2**32 - 1, 2**32 - 1))
@example(content=header(1000, 100, 100) + bytes(10**7))
@example(content=gzip.compress(header(1000, 100, 100) + bytes(10**7)))
@example(content=gzip.compress(header(40, 6, 5)) + gzip.compress(bytes(1200)))
@settings(
    max_examples=500,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_bytes_are_read_as_what_they_are_or_refused(tmp_path, small_arrays, content):
    """Memory is bounded by the file's size, whatever the file claims."""
    path = write_idx(tmp_path, small_arrays) / IMAGES
    path.write_bytes(content)
    expected, found = meaning(content), None
    tracemalloc.start()
    try:
        found = read_folder(tmp_path).train_images
    except DataError as error:
        assert str(tmp_path) in str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    if expected is None or expected.shape != (40, 6, 5):
        assert found is None
    else:
        np.testing.assert_array_equal(found, expected)
    most = len(content) * (LARGEST_COMPRESSION if content[:2] == b"\x1f\x8b" else 1)
    assert peak < 3 * most + 500_000  # gzip makes two copies of what it returns


def meaning(content: bytes) -> np.ndarray | None:
    """Return the images that a file holds; None if it is no such file."""
    try:
        plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, OSError, zlib.error):
        return None
    if len(plain) < 16 or plain[:4] != bytes([0, 0, 8, 3]):
        return None
    shape = struct.unpack(">3I", plain[4:16])
    if math.prod(shape) != len(plain) - 16 or 0 in shape:
        return None
    return np.frombuffer(plain[16:], np.uint8).reshape(shape)


@pytest.mark.parametrize(
    ("rename", "words"),
    [
        ({IMAGES: "train-images.idx3-ubyte"}, "rename it: train-images.idx3-ubyte"),
        ({IMAGES: "emnist-letters-train-images-idx3-ubyte"}, "rename it: emnist-letters-train-im"),
        (
            {"t10k-labels-idx1-ubyte": "emnist-test-labels-idx1-ubyte.gz"},
            "t10k-labels-idx1-ubyte[.gz] is missing; if it is one of these, rename it: emnist-test",
        ),
        (
            {name: f"raw/{name}" for name in DIMENSIONS},
            f"needed are {', '.join(DIMENSIONS)}; there are notes.txt, raw/",
        ),
    ],
)
def test_a_missing_file_is_named_with_what_is_there(tmp_path, small_arrays, rename, words):
    write_idx(tmp_path, small_arrays)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "raw").mkdir()
    for name, other in rename.items():
        (tmp_path / name).rename(tmp_path / other)
    with pytest.raises(DataError) as refused:
        read_folder(tmp_path)
    assert words in str(refused.value)
