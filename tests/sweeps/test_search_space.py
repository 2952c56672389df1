"""Where a search starts, and under which names its trials are found again."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from fmnist.common.errors import ConfigError
from fmnist.config.schema import Metric, Study
from fmnist.sweeps.search_space import as_recorded, as_typed, search_design, search_space

OPTUNA = ("hydra/sweeper=optuna", "optimizer=momentum")


def test_a_search_draws_from_choices_ranges_and_intervals_and_starts_as_configured(swept_config):
    config, overrides = swept_config(
        *OPTUNA,
        "model=choice(relu,selu_dropout)",
        "model.depth=range(2,21)",
        "optimizer.learning_rate=tag(log,interval(0.001,0.1))",
        "seed=7",
    )
    space = search_space(config, overrides)
    assert space.distributions == {
        "model": CategoricalDistribution(["relu", "selu_dropout"]),
        "model.depth": IntDistribution(2, 20),
        "optimizer.learning_rate": FloatDistribution(0.001, 0.1, log=True),
    }
    assert space.start == {
        "model": "selu_dropout",
        "model.depth": 20,
        "optimizer.learning_rate": 0.01,
    }
    assert space.fixed == ["optimizer=momentum", "seed=7"]


@pytest.mark.parametrize(
    ("choices", "start", "recorded"),
    [
        ("optimizer.nesterov=choice(true,false)", "False", "False"),
        ("optimizer.momentum=0,9e-1", "0.9", "0.9"),
        ("optimizer.momentum=choice(0,0.5) optimizer=sgd", "0", "0.0"),
        ("model.initializer=choice(he_normal,glorot_uniform)", "glorot_uniform", "glorot_uniform"),
    ],
)
def test_choices_are_compared_by_what_they_mean(swept_config, choices, start, recorded):
    config, overrides = swept_config(*OPTUNA, *choices.split())
    space = search_space(config, overrides)
    [key] = space.start
    assert space.start == {key: start}
    assert as_recorded(config, as_typed(space.start)) == {key: recorded}
    study = Study("Which?", Metric.best_val_accuracy, None, 0.005)
    assert search_design(config, study, space).names == {recorded: "start"}


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("model.width=choice(16,32)", "model.width: a search starts with what is configured, 100;"),
        ("+foo=range(1,3)", "foo: has no default; a search needs one to start from"),
        ("seed=1,2", "seed: cannot be searched"),
        ("model.depth=interval(9,1)", "cannot be searched: `low <= high` must"),
        ("model.depth=3", "hydra.sweeper.params: nothing to search"),
    ],
)
def test_what_cannot_be_searched_is_refused(swept_config, typed, words):
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        search_space(*swept_config(*OPTUNA, typed))
