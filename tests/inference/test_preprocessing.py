"""Files become what the model was trained on, or one line says why not."""

import io
import struct
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fmnist.common.errors import ImageError
from fmnist.inference import preprocessing

SHAPE = (28, 28)
BOOT = np.zeros(SHAPE, np.uint8)
BOOT[4:24, 9:18] = np.arange(60, 60 + 180, dtype=np.uint8).reshape(20, 9)


def saved(folder, array, name="image.png", **options):
    Image.fromarray(array).save(folder / name, **options)
    return str(folder / name)


def photograph(background=255, factor=20, margin=(60, 200)):
    """BOOT enlarged, dark on bright, with room around it."""
    large = np.kron(255 - BOOT, np.ones((factor, factor), np.uint8))
    wide = np.pad(large, [(margin[0],) * 2, (margin[1],) * 2], constant_values=255)
    return np.minimum(wide, background).astype(np.uint8)


def test_a_picture_of_the_right_size_is_taken_as_it_is(tmp_path):
    np.testing.assert_array_equal(preprocessing.read(saved(tmp_path, BOOT), SHAPE), [BOOT])
    coloured = np.stack([BOOT] * 3, axis=2)
    np.testing.assert_array_equal(preprocessing.read(saved(tmp_path, coloured), SHAPE), [BOOT])
    np.testing.assert_array_equal(preprocessing.read(saved(tmp_path, 255 - BOOT), SHAPE), [BOOT])


@pytest.mark.parametrize("background", [255, 244])
def test_a_photograph_becomes_like_the_data_set(tmp_path, background):
    [seen] = preprocessing.read(saved(tmp_path, photograph(background)), SHAPE)
    assert (seen.dtype, seen.shape) == (np.uint8, SHAPE)
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    # 20 x 9 pixels, trimmed, made as large as fits and put in the middle
    assert (rows[0], rows[-1]) == (0, 27)
    assert len(columns) == pytest.approx(28 * 9 / 20, abs=1)
    assert columns[0] == pytest.approx(27 - columns[-1], abs=1)
    assert seen[14, 14] > seen[1, 14] > 0, "bright on black, and not upside down"


def test_a_dark_background_stays_dark(tmp_path):
    [bright] = preprocessing.read(saved(tmp_path, photograph()), SHAPE)
    [dark] = preprocessing.read(saved(tmp_path, 255 - photograph()), SHAPE)
    np.testing.assert_allclose(bright.astype(int), dark, atol=8)  # sharpening clips


def test_transparent_is_white_and_a_turned_photograph_is_turned_back(tmp_path):
    grey = photograph()
    see_through = np.dstack([grey, grey, grey, np.where(grey == 255, 0, 255).astype(np.uint8)])
    [flat], [layered] = (
        preprocessing.read(saved(tmp_path, array), SHAPE) for array in (grey, see_through)
    )
    np.testing.assert_array_equal(flat, layered)
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright
    sideways = saved(tmp_path, np.rot90(grey), "turned.jpg", exif=turned, quality=100)
    [upright] = preprocessing.read(sideways, SHAPE)
    assert np.abs(upright.astype(int) - flat).mean() < 5


@pytest.mark.parametrize("shape", [(50, 80), (50, 80, 4), SHAPE])
@pytest.mark.parametrize("value", [0, 255])
def test_a_picture_that_shows_nothing_is_refused(tmp_path, shape, value):
    with pytest.raises(ImageError, match=r"image\.png: shows nothing: it is of one colour"):
        preprocessing.read(saved(tmp_path, np.full(shape, value, np.uint8)), SHAPE)


def test_what_is_bright_and_on_transparent_ground_is_seen(tmp_path):
    """As a shop's picture of a white shirt."""
    grey = photograph()
    white = np.full_like(grey, 250)
    alpha = np.where(grey == 255, 0, 255).astype(np.uint8)
    [seen] = preprocessing.read(saved(tmp_path, np.dstack([white, white, white, alpha])), SHAPE)
    assert seen[14, 14] > 200 and seen[14, 0] == 0


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_picture_of_16_bits_may_use_few_of_them(tmp_path, bits):
    grey = photograph()
    [expected] = preprocessing.read(saved(tmp_path, grey), SHAPE)
    wide = grey.astype(np.uint16) << (bits - 8)
    [seen] = preprocessing.read(saved(tmp_path, wide, "wide.png"), SHAPE)
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("name", ["a.webp", "a.gif", "a.png", "webp.jpg"])
def test_formats_are_known_by_their_content(tmp_path, name):
    [expected] = preprocessing.read(saved(tmp_path, photograph()), SHAPE)
    kind = {"webp.jpg": {"format": "WEBP", "lossless": True}, "a.webp": {"lossless": True}}
    [seen] = preprocessing.read(saved(tmp_path, photograph(), name, **kind.get(name, {})), SHAPE)
    assert np.abs(seen.astype(int) - expected).mean() < 1


def test_arrays_are_taken_as_they_are(tmp_path):
    np.save(tmp_path / "two.npy", np.stack([BOOT, BOOT]))
    assert preprocessing.read(str(tmp_path / "two.npy"), SHAPE).shape == (2, *SHAPE)
    np.save(tmp_path / "one.npy", BOOT)
    np.testing.assert_array_equal(preprocessing.read(str(tmp_path / "one.npy"), SHAPE), [BOOT])


def test_standard_input(tmp_path, monkeypatch):
    content = io.BytesIO((tmp_path / saved(tmp_path, BOOT)).read_bytes())
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=content))
    np.testing.assert_array_equal(preprocessing.read("-", SHAPE), [BOOT])


def test_a_folder_stands_for_its_images(tmp_path):
    names = [saved(tmp_path, BOOT, name) for name in ("b.png", "a.JPG")]
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._b.png").write_bytes(b"\0\x05\x16\x07 of macOS")
    assert preprocessing.files_of([str(tmp_path), "-"]) == [*sorted(names), "-"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match=r"empty: no picture and no \.npy in this folder"):
        preprocessing.files_of([str(tmp_path / "empty")])


def test_a_folder_is_sorted_as_people_count(tmp_path):
    for name in ("test10.png", "test2.png", "test1.webp", "b.gif", "x.heic", "test2.npy"):
        (tmp_path / name).touch()
    names = [file.removeprefix(f"{tmp_path}/") for file in preprocessing.files_of([str(tmp_path)])]
    assert names == ["b.gif", "test1.webp", "test2.npy", "test2.png", "test10.png", "x.heic"]


def bomb() -> bytes:
    """A PNG that says it has 100,000 x 100,000 pixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for chunk in (b"IHDR" + header, b"IDAT"):
        content += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return content


def npy(array) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


def png() -> bytes:
    content = io.BytesIO()
    Image.fromarray(BOOT).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "file: is empty"),
        (b"words", "file: is not a PNG, JPEG, WebP, GIF or .npy file"),
        (b"\0\0\0\x18ftypheic", "file: is a HEIC picture, not a PNG, JPEG, WebP, GIF or .npy file"),
        (b"\0\x05\x16\x07\0", "is a file of macOS beside the real one, not a PNG"),
        (b"\n<!DOCTYPE html><html>", "is a web page, not a PNG"),
        (b"<?xml version='1.0'?>\n<svg width='1'>", "is an SVG drawing, not a PNG"),
        (png()[:60], "is damaged: "),
        (bomb(), "has more than "),
        (npy(BOOT.astype(float)), r"is \(28, 28\) float64, must be \(n, 28, 28\) uint8"),
        (npy(np.zeros((3, 5, 5), np.uint8)), r"is \(3, 5, 5\) uint8, must be"),
        (npy(np.zeros(7, np.uint8)), r"is \(7,\) uint8, must be"),
        (npy(np.array([{"a": 1}], object)), "is not a readable array"),
        (npy(BOOT)[:200], "is not a readable array"),
        (npy(BOOT).replace(b"(28, 28)", b"(9**9,1)"), "is not a readable array"),
        (npy(BOOT).replace(b"(28, 28), ", b"(99999999, 28, 28),"), "is not a readable array"),
    ],
)
def test_what_is_no_image_is_one_line(tmp_path, content, message):
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(ImageError, match=message) as refused:
        preprocessing.read(str(file), SHAPE)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ImageError, match=r"nothing.png: No such file or directory"):
        preprocessing.read(str(tmp_path / "nothing.png"), SHAPE)
