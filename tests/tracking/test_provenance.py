"""What a run records of its code."""

import shutil

from conftest import PROJECT
from fmnist.tracking.provenance import code_digest, own_modules


def test_the_digest_of_the_code_covers_every_folder_of_package_and_plugins(tmp_path):
    for name in ("fmnist", "hydra_plugins"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=ignored)
    shutil.copy(PROJECT / "train.py", tmp_path)
    files = {path.parent: path for path in sorted(tmp_path.rglob("*.py"))}
    changed = {folder.relative_to(tmp_path).as_posix() for folder in files}
    assert {"fmnist", "fmnist/tracking", "fmnist/training"} <= changed
    assert {"hydra_plugins/fmnist_plugins"} <= changed
    digests = [code_digest.__wrapped__(project=tmp_path)]
    assert digests == [code_digest()]
    for path in files.values():
        path.write_text(path.read_text() + "# changed\n")
        digests.append(code_digest.__wrapped__(project=tmp_path))
    assert len(set(digests)) == 1 + len(files)


def test_notes_and_configuration_files_are_no_code(tmp_path):
    for name in ("fmnist", "hydra_plugins", "conf"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=ignored)
    shutil.copy(PROJECT / "train.py", tmp_path)
    (tmp_path / "LICENSE").write_text("another\n")
    (tmp_path / "notes.py").write_text("imported = by_nothing\n")
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text("seed: 3\n")
    assert code_digest.__wrapped__(project=tmp_path) == code_digest()


def test_the_users_own_modules_are_code(tmp_path, monkeypatch, config):
    module = tmp_path / "my_callbacks.py"
    module.write_text("import keras\n\n\nclass Mine(keras.callbacks.Callback):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    own = own_modules(config("+callbacks.mine._target_=my_callbacks.Mine"))
    assert own == (module,)
    assert own_modules(config()) == ()
    before = code_digest.__wrapped__(own)
    module.write_text(module.read_text() + "# changed\n")
    assert before != code_digest.__wrapped__(own) != code_digest()
