"""Training starts without what it does not need, and resumes whatever began it."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from conftest import ENVIRONMENT, PROJECT, QUICK
from fmnist.config.instantiate import instantiate
from fmnist.training import trainer
from fmnist.training.state import Snapshot, digest_of_weights


def test_what_the_first_epoch_does_not_need_is_not_imported_before_it():
    code = """
import sys
from fmnist.common import startup
with startup.without_modules("matplotlib", "sklearn"):
    from fmnist.training import trainer
assert not {"matplotlib", "sklearn"} & set(sys.modules)
import matplotlib, sklearn
"""
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=ENVIRONMENT, check=True)


@pytest.mark.slow
def test_a_stopped_trial_resumes_without_its_search(config, tmp_path):
    observer = SimpleNamespace(
        on_train_begin=lambda progress: None, update=lambda: None, on_train_end=lambda: None
    )

    def pruner(epoch, val_accuracy, last):
        if epoch == 2:
            raise KeyboardInterrupt
        return False

    def prepared():
        settings = config(*QUICK, "callbacks=none", "training.engine=keras", "optimizer=adam")
        return trainer.prepare(settings, instantiate("data", settings.data))

    stopped, resumed, whole = prepared(), prepared(), prepared()
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(stopped, "trial", None, observer, pruner)
    earlier = Snapshot.load(tmp_path, "trial")
    assert earlier.epochs == 1
    fitted = trainer.fit(resumed, "trial", earlier, observer, None)
    expected = trainer.fit(whole, "other", None, observer, None)
    assert fitted.digests == expected.digests and len(fitted.digests) == 2
    assert digest_of_weights(resumed.model) == digest_of_weights(whole.model)
