"""One registered model for each data set and experiment, under a name that people can read."""

import pytest

from fmnist.registry.model_names import asked_for, data_set_of, model_name, option


@pytest.mark.parametrize(
    ("experiment", "data_set", "name"),
    [
        ("fmnist", "fashion_mnist", "fmnist"),
        ("fmnist", "digits", "fmnist-digits"),
        ("shoes", "fashion_mnist", "shoes-fashion_mnist"),
        ("a/b:c", "idx-my:data", "a-b-c-idx-my-data"),  # MLflow allows neither / nor :
    ],
)
def test_names(experiment, data_set, name):
    assert model_name(experiment, data_set) == name


def test_a_data_set_in_idx_files_has_the_name_of_its_folder():
    assert data_set_of({"data._target_": "fmnist.data.digits"}) == "digits"
    idx = {"data._target_": "fmnist.data.idx", "data.dir": "/srv/letters"}
    assert data_set_of(idx) == "idx-letters"


def test_a_command_means_the_given_model_else_that_of_fashion_mnist():
    assert asked_for("mine", "fmnist") == "mine"
    assert asked_for(None, "fmnist") == "fmnist"
    assert asked_for(None, "shoes") == "shoes-fashion_mnist"
    assert option("fmnist") == "" and option("Tim's") == """ --model 'Tim'"'"'s'"""
