"""Values that a job would refuse are refused before the first job begins."""

import pytest
from hydra.core.global_hydra import GlobalHydra

from fmnist.common.errors import one_line
from fmnist.sweeps.checks import check_jobs


def check(swept_config, typed):
    check_jobs(GlobalHydra.instance().config_loader(), *swept_config(*typed.split()))


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("model.depth=2,-3", "model.depth=-3: must be at least 1 and at most 10000"),
        ("model.depth=-3 seed=1,2", "model.depth=-3: must be at least 1 and at most 10000"),
        ("model.depth=2,x", "model.depth: Value 'x' of type 'str' could not be converted"),
        ("model.depth=choice(3,0)", "model.depth=0: must be at least 1"),
        ("model.depth=range(3,-2,-1)", "model.depth=-1: must be at least 1"),
        ("optimizer.learning_rate=0.1,0", "optimizer.learning_rate=0: must be above 0"),
        ("training.engine=keras,fast", "training.engine: Invalid value 'fast', expected one of"),
        ("model.nosuch=1,2", "model.nosuch: no such key; there are name, activation, depth"),
        ("model=relu,nosuch", "model=nosuch: choose one of batch_norm, "),
        ("optimizer=sgd,adam optimizer.nesterov=true", "optimizer.nesterov: no such key; there"),
        ("optimizer=adam optimizer.beta_1=0.5,1", "optimizer.beta_1=1.0: must be at least 0 and"),
        ("hydra/sweeper=optuna model.dropout_rate=interval(0.1,1)", "model.dropout_rate=1.0: "),
        ("hydra/sweeper=optuna model.depth=range(0,9)", "model.depth=0: must be at least 1"),
        ("model.width=10,1000000000", "model.width=1000000000: must be smaller, at most"),
    ],
)
def test_one_wrong_value_is_refused(swept_config, typed, words):
    with pytest.raises(Exception) as refused:
        check(swept_config, typed)
    assert words in one_line(refused.value)


@pytest.mark.parametrize(
    "typed",
    [
        "model=relu,selu seed=1,2 model.depth=2,3",
        "optimizer=sgd,adam optimizer.learning_rate=0.1,0.2 ~callbacks.tensorboard",
        "+optimizer.weight_decay=0.1,0.2 ++training.threads=1,null",
        "callbacks.early_stopping=null model.width=${model.depth},30",
        "+experiment=tutorial",
        "+experiment=search",
    ],
)
def test_what_can_be_trained_passes(swept_config, typed):
    check(swept_config, typed)
