"""Where the data set comes from: a real server on this machine stands in for the far one."""

import gzip
import hashlib
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from conftest import write_idx
from fmnist.common.errors import DataError
from fmnist.data import download
from fmnist.data.idx_files import DIMENSIONS

IMAGES = "train-images-idx3-ubyte"


@pytest.fixture
def place(tmp_path, small_arrays, monkeypatch):
    """Small files with known sums on a server; no other place has them."""
    folder = write_idx(tmp_path / "server", small_arrays, zipped=True)
    sums = {
        name: hashlib.sha256(gzip.decompress((folder / f"{name}.gz").read_bytes())).hexdigest()
        for name in DIMENSIONS
    }
    monkeypatch.setattr(download, "SUMS", sums)
    monkeypatch.setattr(download, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("PATH", "")  # no apt-get
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Handler.requests, Handler.seconds_a_byte = [], 0.0
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Handler(SimpleHTTPRequestHandler):
    requests: list[str]
    seconds_a_byte: float

    def do_GET(self):
        self.requests.append(self.path)
        super().do_GET()

    def copyfile(self, source, outputfile):
        for byte in iter(partial(source.read, 1), b"") if self.seconds_a_byte else ():
            time.sleep(self.seconds_a_byte)
            try:
                outputfile.write(byte)
            except ConnectionError:
                return
        super().copyfile(source, outputfile)

    def log_message(self, *arguments):
        pass


def test_fetched_once_then_read_from_the_cache(place, small_arrays, tmp_path):
    _, url = place
    files, source = download.find_or_fetch(url, timeout=10)
    assert source == url
    np.testing.assert_array_equal(files.train_images, small_arrays[IMAGES])
    assert len(Handler.requests) == 4
    _, source = download.find_or_fetch(url, timeout=10)
    assert source == str(download.cache_folder())
    assert len(Handler.requests) == 4
    assert sorted(p.name for p in download.cache_folder().iterdir()) == sorted(
        f"{name}.gz" for name in DIMENSIONS
    )
    assert list(download.cache_folder().parent.iterdir()) == [download.cache_folder()]


@pytest.mark.parametrize("damage", ["cut short", "altered", "plain copy altered"])
def test_a_bad_copy_in_the_cache_is_named_and_fetched_again(place, small_arrays, caplog, damage):
    _, url = place
    download.find_or_fetch(url, timeout=10)
    cached = download.cache_folder() / f"{IMAGES}.gz"
    if damage == "cut short":
        cached.write_bytes(cached.read_bytes()[:-20])
    else:
        altered = small_arrays[IMAGES].copy()
        altered[0, 0, 0] ^= 1
        write_idx(download.cache_folder(), {IMAGES: altered}, zipped=damage == "altered")
    files, source = download.find_or_fetch(url, timeout=10)
    assert source == url
    np.testing.assert_array_equal(files.train_images, small_arrays[IMAGES])
    assert str(download.cache_folder() / IMAGES) in caplog.text
    assert download.find_or_fetch(url, timeout=10)[1] == str(download.cache_folder())


def test_a_system_folder_comes_before_the_network(place, small_arrays):
    _, url = place
    write_idx(download.SYSTEM_FOLDER, small_arrays, zipped=True)
    assert download.find_or_fetch(url, timeout=10)[1] == str(download.SYSTEM_FOLDER)
    assert Handler.requests == []


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("cut short", "cut short"),
        ("altered", "SHA-256"),
        ("missing", "404"),
        ("slow", "took longer than data.timeout=0.5 s"),
    ],
)
def test_what_a_server_sends_is_checked_and_the_user_told(place, small_arrays, damage, reason):
    folder, url = place
    served = folder / f"{IMAGES}.gz"
    if damage == "cut short":
        served.write_bytes(served.read_bytes()[:-20])
    elif damage == "altered":
        write_idx(folder, {IMAGES: 255 - small_arrays[IMAGES]}, zipped=True)
    elif damage == "missing":
        served.unlink()
    else:
        Handler.seconds_a_byte = 0.01
    with pytest.raises(DataError) as caught:
        download.find_or_fetch(url, timeout=0.5)
    message = str(caught.value)
    assert reason in message
    for way_out in ("data.dir=FOLDER", "data=digits", "go online", "apt-get and dpkg-deb are not"):
        assert way_out in message
    assert not download.cache_folder().exists()
    assert list(download.cache_folder().parent.iterdir()) == []  # nothing half fetched is left


def test_an_unreachable_server_and_an_unwritable_cache_are_told(place, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match="Not a directory"):
        download.find_or_fetch(place[1], timeout=10)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    with pytest.raises(DataError, match="Connection refused"):
        download.find_or_fetch("http://127.0.0.1:9", timeout=10)


@pytest.mark.skipif(
    not Path("/usr/bin/apt-get").exists() or download.SYSTEM_FOLDER.exists(),
    reason="needs Debian's apt-get, and its package not installed",
)
@pytest.mark.slow
def test_debians_package_is_fetched_for_real_where_the_address_cannot_be_reached(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    files, source = download.find_or_fetch("http://127.0.0.1:9", timeout=120)
    assert source == "Debian's package dataset-fashion-mnist"
    assert files.train_images.shape == (60_000, 28, 28)
