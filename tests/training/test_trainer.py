"""Training starts without what it does not need."""

import subprocess
import sys

from conftest import ENVIRONMENT, PROJECT


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
