"""Locks between processes: they end with their holder, and who looks is in nobody's way."""

import subprocess
import sys
import threading
import time

import pytest

from conftest import PROJECT
from fmnist.common.files import file_lock, is_held

HOLD = """
import sys, time
from pathlib import Path
from fmnist.common.files import file_lock
with file_lock(Path(sys.argv[1]), timeout=0):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock `tmp_path / "lock"`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lock_is_waited_for_and_ends_with_its_holder(tmp_path, holder):
    path = tmp_path / "lock"
    assert is_held(path)
    started = time.monotonic()
    with pytest.raises(TimeoutError), file_lock(path, timeout=0.3):
        pass
    assert 0.3 <= time.monotonic() - started < 5
    holder.kill()
    holder.wait()
    assert not is_held(path)
    with file_lock(path, timeout=0):
        assert is_held(path)
    assert path.is_file()  # `resume=` looks for it


def test_many_may_look_at_a_lock_at_once(tmp_path, holder):
    free, taken, wanted = (tmp_path / name for name in ("free", "lock", "wanted"))
    free.touch()
    answers = []

    def look():
        for _ in range(50):
            is_held(wanted)
            answers.append((is_held(free), is_held(taken)))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):  # nor are they in the way of whoever takes it
        with file_lock(wanted, timeout=1):
            assert is_held(wanted)
    for thread in threads:
        thread.join()
    assert set(answers) == {(False, True)}


def test_who_may_not_write_a_lock_may_look_at_it(tmp_path, holder):
    (tmp_path / "lock").chmod(0o444)
    assert is_held(tmp_path / "lock")


@pytest.mark.parametrize("path", ["/proc/lock", "nowhere/lock"])
def test_a_lock_that_cannot_be_made_is_told_at_once(tmp_path, path):
    started = time.monotonic()
    with pytest.raises(OSError) as caught, file_lock(tmp_path / path, timeout=60):
        pass
    assert time.monotonic() - started < 5 and not isinstance(caught.value, TimeoutError)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "nowhere").exists()
