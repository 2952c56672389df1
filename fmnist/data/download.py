"""Find the real Fashion-MNIST on this machine, or fetch it once into Keras's cache folder."""

import logging
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from http.client import HTTPException
from pathlib import Path
from subprocess import SubprocessError
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from fmnist.common.errors import DataError
from fmnist.data.idx_files import DIMENSIONS, IdxFiles, read_folder

SUMS = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""SHA-256 of each file's decompressed content, which is the same wherever the file comes from."""

SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_PACKAGE = "dataset-fashion-mnist"
STALL_TIMEOUT = 15.0  # seconds without a byte after which a server counts as unreachable
SCRATCH = ".fmnist-download-"  # begins the names of folders for half a download

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return the folder where Keras keeps the data set, too (`KERAS_HOME`, else `~/.keras`)."""
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    return home / "datasets" / "fashion-mnist"


def find_or_fetch(url: str, timeout: float) -> tuple[IdxFiles, str]:
    """Return the data set's arrays and where they come from.

    The first good copy is used: the cache, the system folder, `url` (a folder on a server with the
    four files, gzipped), Debian's package. A bad copy is named and never used; one in the cache is
    replaced. `timeout` is in seconds, for one file from `url`, and for Debian's package.

    Raises:
        DataError: if no source has it; says what was tried and what the user can do.
    """
    failures = []
    cache = cache_folder()
    for folder in (cache, SYSTEM_FOLDER):
        if not folder.is_dir():
            failures.append(f"{folder} (no such folder)")
            continue
        try:
            return read_folder(folder, SUMS), str(folder)
        except DataError as error:
            log.warning("ignored: %s", error)
            failures.append(str(error))
    sources: dict[str, Callable[[Path], None]] = {
        url: partial(_download, url, timeout),
        f"Debian's package {DEBIAN_PACKAGE}": partial(_unpack_debian, timeout),
    }
    for source, fetch in sources.items():
        try:
            return _fetch_into(cache, fetch), source
        # HTTPException: not an answer; ValueError: not an address
        except (DataError, OSError, SubprocessError, HTTPException, ValueError) as error:
            log.warning("could not fetch from %s: %s", source, error)
            failures.append(f"{source} ({error})")
    raise DataError(
        f"Fashion-MNIST cannot be found; tried: {'; '.join(failures)}. "
        "You can: 1. go online and run the same command again; "
        f"2. put its four .gz files into {cache}, or any folder named with data.dir=FOLDER; "
        f"3. install Debian's package {DEBIAN_PACKAGE}, or train on data=digits, which needs none."
    )


def _fetch_into(cache: Path, fetch: Callable[[Path], None]) -> IdxFiles:
    """Fetch beside the cache, check, and only then move into it: nobody sees half a file."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache.parent, prefix=SCRATCH) as scratch:
        fetch(Path(scratch))
        files = read_folder(Path(scratch), SUMS)
        cache.mkdir(exist_ok=True)
        for name in DIMENSIONS:
            (cache / name).unlink(missing_ok=True)  # a plain copy would be read before the .gz
            Path(scratch, f"{name}.gz").replace(cache / f"{name}.gz")
    return files


def _download(url: str, timeout: float, folder: Path) -> None:
    console = Console(stderr=True)
    label = TextColumn("{task.description}")
    columns = (label, BarColumn(), DownloadColumn(), TimeRemainingColumn())
    # No bar but on a terminal: it would begin with an empty line.
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        for name in DIMENSIONS:
            _download_file(f"{url}/{name}.gz", folder / f"{name}.gz", timeout, progress)


def _download_file(url: str, path: Path, timeout: float, progress: Progress) -> None:
    deadline = time.monotonic() + timeout
    stall = min(STALL_TIMEOUT, timeout)
    with urllib.request.urlopen(url, timeout=stall) as response, path.open("wb") as file:
        size = int(response.headers.get("Content-Length", 0)) or None
        task = progress.add_task(path.name, total=size)
        while chunk := response.read1(1 << 16):  # what is there, without waiting for more
            progress.advance(task, file.write(chunk))
            if time.monotonic() > deadline:
                raise DataError(f"{path.name} took longer than data.timeout={timeout:g} s")


def _unpack_debian(timeout: float, folder: Path) -> None:
    """Let apt download the package without root: its lists and caches lie in `folder`, too."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise DataError("apt-get and dpkg-deb are not on this machine")
    lists = folder / "lists"
    (lists / "partial").mkdir(parents=True)
    apt = ["apt-get", "-q", "-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={folder}"]
    apt += ["-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=true"]
    commands = (
        [*apt, "update"],
        [*apt, "download", DEBIAN_PACKAGE],
        ["sh", "-c", 'dpkg-deb -x "$0"_*.deb .', DEBIAN_PACKAGE],
    )
    with Console(stderr=True).status(f"fetching Debian's package {DEBIAN_PACKAGE} (31 MB)"):
        for command in commands:
            done = subprocess.run(
                command, cwd=folder, timeout=timeout, capture_output=True, text=True
            )
            if done.returncode:
                raise DataError(f"{' '.join(command[-2:])}: {done.stderr.strip()[-200:]}")
    for name in DIMENSIONS:
        unpacked = folder / SYSTEM_FOLDER.relative_to("/") / f"{name}.gz"
        unpacked.replace(folder / unpacked.name)
