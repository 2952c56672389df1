"""Files are replaced whole or not at all; a lock is held by one process."""

import pytest

from fmnist.common.files import file_lock, is_held, replacing


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(OSError, match="the previous file is kept"), replacing(path) as beside:
        beside.write_text("half")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
    with replacing(path) as beside:
        beside.write_text("after")
    assert path.read_text() == "after"


def test_a_lock_is_held_by_one(tmp_path):
    assert not is_held(tmp_path / "lock")
    with file_lock(tmp_path / "lock", 0):
        assert is_held(tmp_path / "lock")
    assert not is_held(tmp_path / "lock")
