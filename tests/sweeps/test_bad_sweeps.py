"""Sweeps and searches that are refused before a job begins, each in one line."""

import shlex

import pytest

from commands import refusal
from conftest import runs_in, train_command

SWEEPS = [
    ("model=relu,selu study.baseline=gelu", "study.baseline=gelu: choose one of relu, selu"),
    ("+experiment=quick model=selu", "study.baseline=relu: choose one of selu"),
    ("+experiment=quick model.depth=2,3 seed=1", "choose one of model=relu model.depth=2, "),
    ("optimizer.learning_rate=1e-2,1 study.baseline=2", "baseline=2: choose one of 0.01, 1"),
    ("model=relu,nosuch", "model=nosuch: choose one of batch_norm,"),
    ("optimizer=sgd,nosuch", "optimizer=nosuch: choose one of adam, momentum, sgd"),
    ("seed=1,1", "seed=1,1: name each seed once"),
    ("seed=1,b", "seed=b: must be a whole number"),
    ("seed=1,-1", "seed=-1: must be at least 0 and below 4294967296"),
    ("seed=1,2 callbacks=none", "study.metric=best_val_accuracy: needs callbacks.checkpoint"),
    ("'seed=range(0,9,0)'", "seed=range(0,9,0): is not a range: range() arg 3 must not be zero"),
    ("'seed=range(0,nan)'", "seed=range(0,nan): is not a range"),
    ("'seed=range(5,1)'", "seed=range(5,1): there is no such value"),
    ("'seed=choice()'", "empty choice is not legal"),
    ("'model=glob(z*)'", "model=glob(z*): there is no such value"),
    ("'optimizer.learning_rate=interval(0.1,1)'", "list the values, name a range, or search:"),
    ("model.depth=2,-3", "model.depth=-3: must be at least 1 and at most 10000"),
    ("model.depth=-3", "model.depth=-3: must be at least 1 and at most 10000"),
    ("optimizer=sgd,adam optimizer.momentum=0.5", "optimizer.momentum: no such key; there are"),
    (
        "hydra/sweeper=optuna",
        "hydra.sweeper.params: nothing to search; for example KEY=interval(0.1,0.5)",
    ),
]
SEARCHES = [
    ("hydra.sweeper.batch=1.5", "sweeper.batch=1.5: must be a whole number"),
    ("hydra.sweeper.fresh_seeds=5", "fresh_seeds=5: must be a list of two"),
    ("hydra.sweeper.trials=0", "hydra.sweeper.trials=0: must be at least 1"),
    ("'hydra.sweeper.fresh_seeds=[42,1]'", "fresh_seeds=[42, 1]: must be a list"),
    ("hydra.sweeper.pruner.min_resource=-1", "`min_resource` is -1, but must"),
    ("seed=1,2", "seed: cannot be searched; hydra.sweeper.fresh_seeds judge"),
    ("study.baseline=relu", "a search compares its best with its start"),
    (
        "'model.width=choice(16,32)'",
        "model.width: a search starts with what is configured, 100; that is none of 16, 32: add it",
    ),
    ("'model=choice(relu,foo)'", "model=foo: choose one of batch_norm,"),
    ("'model.depth=interval(1,9)'", "model.depth: Value '1.0' of type 'float' could not be"),
    ("'model.dropout_rate=interval(0.5,0.1)'", "cannot be searched: `low <= high` must"),
    ("'foo=range(1,3)'", "foo: no such key; there are"),
    ("'callbacks.checkpoint.monitor=choice(loss,0)'", "monitor: a search starts with what is"),
]
ROWS = SWEEPS + [(f"+experiment=search {typed}", words) for typed, words in SEARCHES]


@pytest.mark.parametrize(("typed", "words"), ROWS)
def test_one_line_says_what_is_wrong_before_a_job_begins(tmp_path, typed, words):
    command = train_command(tmp_path, "-m", "hydra/launcher=basic", *shlex.split(typed))[1:]
    line = refusal(command, {})
    assert line.startswith("error: ") and words in line and "\n" not in line
    assert not (tmp_path / "mlflow.db").exists() or runs_in(tmp_path) == []
