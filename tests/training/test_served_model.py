"""The module that is saved with each model works alone, and runs no code out of the model."""

import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import yaml

from conftest import ENVIRONMENT
from fmnist.training import served_model


def saved(folder, *layers):
    """Save a model of 2 x 2 pixels as MLflow does."""
    inputs = keras.Input((2, 2), dtype="uint8")
    model = keras.Sequential([inputs, keras.layers.Flatten(), *layers])
    (folder / "data").mkdir()
    model.save(folder / "data" / "model.keras")
    metadata = {"metadata": {"class_names": ["a", "b", "c"]}}
    (folder / "MLmodel").write_text(yaml.safe_dump(metadata))
    return model


def test_a_copy_of_the_module_answers_without_this_package(tmp_path):
    model = saved(tmp_path, keras.layers.Dense(3, activation="softmax"))
    shutil.copy(served_model.__file__, tmp_path)
    code = """
import sys, numpy, served_model
model = served_model._load_pyfunc(".")
model.predict(numpy.ones((5, 2, 2), numpy.uint8)).to_csv("answers.csv", index=False)
assert not {"fmnist", "mlflow"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, check=True)
    answers = np.loadtxt(tmp_path / "answers.csv", delimiter=",", skiprows=1)
    expected = model.predict(np.ones((5, 2, 2), np.uint8), verbose=0)
    np.testing.assert_allclose(answers, expected, rtol=1e-5)
    assert (tmp_path / "answers.csv").read_text().startswith("a,b,c\n")


def test_code_in_a_model_is_refused(tmp_path):
    saved(tmp_path, keras.layers.Lambda(lambda x: x, output_shape=(4,)))
    with pytest.raises(ValueError, match="Lambda"):
        served_model.load(tmp_path)
