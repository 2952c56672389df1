"""Values that are refused, however odd they are: one line, and nothing of theirs is run."""

import shlex

import pytest
from hydra.errors import HydraException

from fmnist.common.errors import FmnistError, one_line
from fmnist.config.instantiate import instantiate

VALUES = [
    ("model=", "model=: choose one of batch_norm,"),
    ("model=../../etc/passwd", "choose one of batch_norm,"),
    ("data=/etc/passwd", "choose one of digits, fashion_mnist, idx"),
    ("+experiment=nosuch", "experiment=nosuch: choose one of quick, search,"),
    ("nonsense", "Error parsing override 'nonsense' missing EQUAL"),
    ("training.epochs=1e400", "training.epochs: Value 'inf' of type 'float' could not"),
    ("training.epochs=", "training.epochs: Value '' of type 'str' could not"),
    ("training.epochs=99999999999999999999999", "must be at least 1 and at most 1000000000"),
    ("training.threads=1000000000", "threads=1000000000: must be at least 1 and at most 1024"),
    ("training.engine=fast", "training.engine: Invalid value 'fast', expected one of"),
    ("model.depth=1000000000", "model.depth=1000000000: must be at least 1 and at most 10000"),
    ("model.width=1000000000", "model.width=1000000000: must be smaller, at most 1,073,741,824"),
    ("model.name=", "model.name=: must be 1 to 250 printable characters"),
    ("seed=1,2", "seed=1,2: several values need a sweep; add -m"),
    ("seed=1 seed=2 seed=x", "seed: Value 'x' of type 'str' could not"),
    ("model.name='\"unbalanced'", 'model.name="unbalanced: Hydra cannot read this; special'),
    ("model.name=[1,2", "no viable alternative at input '[1,2'"),
    ("model.name='${oc.env:NOPE}'", "model.name: KeyError raised while resolving"),
    ("model.name='${model.name}'", "model.name: Recursive interpolation detected"),
    ("model.name='${'", "Error parsing override 'model.name=${'"),
    ("model.name='${oc.decode:\"[1\"}'", "model.name: GrammarParseError raised while"),
    ("~model", "model.name: a value is needed"),
    ("~callbacks.nosuch", "Could not delete from config. 'callbacks.nosuch' does not exist"),
    ("output_dir=null", "output_dir: a value is needed"),
    ("tracking.experiment=", "tracking.experiment=: must be 1 to 250 printable characters"),
    ("tracking.experiment='\"a\nb\"'", "tracking.experiment=a b: must be 1 to 250 printable"),
    ("study.min_effect=0", "study.min_effect=0.0: must be above 0 and below 1"),
]

TOUCH = "touch HERE/canary"
IS_NONE = "is not a keras.optimizers.Optimizer"
ATTACKS = [
    ("data=../optimizer/sgd", "data._target_=keras.optimizers.SGD: choose one of fmnist.data."),
    (f"optimizer._target_=os.system '+optimizer.command={TOUCH}'", IS_NONE),
    (f"data._target_=subprocess.Popen '+data.args={TOUCH}'", "choose one of fmnist.data."),
    ("data._target_=fmnist.data.download.find_or_fetch", "choose one of fmnist.data."),
    (
        '\'+callbacks.x={_target_:builtins.exec,_args_:["open(\\"HERE/canary\\",\\"w\\")"]}\'',
        "callbacks.x._target_=builtins.exec: is not a keras.callbacks.Callback",
    ),
    (f"'data.dir={{_target_:os.system,command:{TOUCH}}}'", "data.dir: "),
    (
        f"'optimizer.learning_rate={{_target_:os.system,command:{TOUCH}}}'",
        "learning_rate._target_=os.system: is",
    ),
    (
        f"'+optimizer.weight_decay={{_target_:os.system,command:{TOUCH}}}'",
        "optimizer.weight_decay._target_=os.system: is not a keras.optimizers.schedules.",
    ),
    (
        "'+optimizer.clipnorm={_target_:keras.utils.get_file,origin:\"file:///etc/passwd\"}'",
        "_target_=keras.utils.get_file: is not a keras.optimizers.schedules.",
    ),
]


@pytest.mark.parametrize(("typed", "words"), VALUES + ATTACKS)
def test_one_line_says_what_is_wrong(config, tmp_path, typed, words):
    overrides = shlex.split(typed.replace("HERE", str(tmp_path)))
    with pytest.raises((FmnistError, HydraException)) as refused:
        built = config(*overrides)
        for key in ("data", "optimizer"):
            instantiate(key, getattr(built, key))
        for name, node in built.callbacks.items():
            instantiate(f"callbacks.{name}", node)
    line = one_line(refused.value)
    assert words in line and "\n" not in line
    assert not (tmp_path / "canary").exists()
