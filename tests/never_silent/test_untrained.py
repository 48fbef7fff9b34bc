"""A frozen model that nobody trained is refused by name; `explain` says where each model's values come from."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmkd_jax as mmkd
from mmkd_jax.core.model import linen, plain
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import explain
from mmkd_jax.pretrained import Inheritance
from mmkd_jax.training import init_from
from mmkd_jax.training.roles import Frozen, Trained
from mmkd_jax.training.training import Training
from tests.never_silent.setting import CLASSES, experiment, model, teacher_and_student, train

WEIGHTS = np.eye(4, CLASSES, dtype=np.float32)
ZEROS = init_from.PretrainedVariables(np.zeros(CLASSES, np.float32), ("zeros",))
PRETRAINED = init_from.PretrainedVariables({"params": {"w": WEIGHTS}}, ("the identity",))


def with_teacher(role):
    trainings = teacher_and_student()
    kd = trainings["kd"]
    return trainings | {"kd": dataclasses.replace(kd, models={**kd.models, "teacher": role})}


class Net(nn.Module):
    @nn.compact
    def __call__(self, batch, ctx, patch):
        x = nn.Dense(5, name="first")(batch["x"])
        return {"logits": nn.Dense(CLASSES, name="head")(x)}


def own():
    """A function whose init returns its weights."""
    return model()._replace(init=lambda key, batch: {"params": {"w": jnp.asarray(WEIGHTS)}})


jitted = own()._replace(init=jax.jit(own().init))

UNTRAINED = {
    "forgotten": Frozen(model()),
    "a module": Frozen(linen(Net())),
    "only its head": Frozen(linen(Net()), init_from={"params.head.bias": ZEROS}),
    "cached": Frozen(model(), cache=("logits",)),
}
TRAINED = {
    "from a training": Frozen(model(), init_from="teacher.teacher"),
    "pretrained": Frozen(model(), init_from=PRETRAINED),
    "its own init": Frozen(own()),
    "its own init, jitted": Frozen(jitted),
    "its own init, cached": Frozen(own(), cache=("logits",)),
    "without parameters": Frozen(plain(lambda params, batch: {"logits": batch["x"][:, :CLASSES]})),
    "on purpose": Frozen(model(), random=True),
    "on purpose, cached": Frozen(model(), random=True, cache=("logits",)),
}


@pytest.mark.parametrize("role", UNTRAINED.values(), ids=UNTRAINED)
def test_is_refused_before_anything_runs(role, tmp_path):
    """An untrained frozen or cached model → refused by name before anything runs."""
    message = "training 'kd': frozen model 'teacher' was never trained: .*params.* would be random. Give it variables"
    for act in (lambda t: explain(experiment(t)), lambda t: train(tmp_path / "run", t)):
        with pytest.raises(UserError, match=message):
            act(with_teacher(role))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("role", TRAINED.values(), ids=TRAINED)
def test_is_taken(role, tmp_path):
    """A frozen model from a training, pretrained, of weights in its own `init`, or `random=True` → taken."""
    train(tmp_path, with_teacher(role))


@pytest.mark.slow
def test_the_cache_of_own_variables_is_what_the_model_computes(tmp_path):
    """A cached teacher whose `init` returns its weights → the same result as an uncached teacher."""
    for name in ("its own init", "on purpose"):
        results = [
            train(tmp_path / f"{name} {i}", with_teacher(TRAINED[f"{name}{suffix}"]))["kd"][0]["history"]
            for i, suffix in enumerate(("", ", cached"))
        ]
        for one, other in zip(*results, strict=True):
            assert one == pytest.approx(other, rel=1e-5)


def test_what_inheritance_does_not_take_is_random():
    """A frozen model that inherits only some layers → the rest is refused as random."""
    fields = {f.name for f in dataclasses.fields(Frozen)}
    assert fields == {"model", "init_from", "layers", "labels", "cache", "random"}
    nets = {"teacher": Trained(linen(Net()))}
    trainings = teacher_and_student()
    first = dataclasses.replace(trainings["teacher"], models=nets)
    take_none = Frozen(linen(Net()), init_from="teacher.teacher", layers=lambda initial, source: initial)
    second = dataclasses.replace(trainings["kd"], models={"teacher": take_none, "student": Trained(model())})
    with pytest.raises(UserError, match="frozen model 'teacher' was never trained"):
        explain(experiment({"teacher": first, "kd": second}))
    assert Inheritance and Training


def test_explain_says_where_values_come_from():
    """Where a model's variables come from → `mmkd explain` names it for each model."""
    text = explain(experiment(with_teacher(TRAINED["its own init"])))
    assert "teacher: 12 parameters, trained, initialized at random" in text
    assert "teacher: 12 parameters, frozen, from its own init" in text
    assert "student: 12 parameters, trained, initialized at random" in text
    assert "frozen, from the identity" in explain(experiment(with_teacher(TRAINED["pretrained"])))
    assert "frozen, initialized at random" in explain(experiment(with_teacher(TRAINED["on purpose"])))
    part = Trained(
        linen(Net()),
        init_from={"params.head.bias": ZEROS},
    )
    trainings = teacher_and_student()
    text = explain(experiment({"a": dataclasses.replace(trainings["teacher"], models={"teacher": part})}))
    assert "trained, params.head.bias from zeros, the rest initialized at random" in text
    assert mmkd.Frozen is Frozen
