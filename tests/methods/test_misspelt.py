"""A misspelt word of a method is refused in words: it names the word, and what there is."""

import functools
import inspect
import re
from typing import Any

import jax
import pytest

from mmkd_jax import methods
from mmkd_jax.adversarial import PGD
from mmkd_jax.core.model import StepContext, plain
from mmkd_jax.core.objective import combine
from mmkd_jax.core.outputs import Outputs, forward
from mmkd_jax.core.state import variables
from mmkd_jax.errors import UserError
from tests.small import distil, initialize, make_batch, net, on_device, task

MODELS = {"teacher": net(6), "student": net(8)}
WRITERS = {n: plain(lambda params, batch: {"logits": jax.nn.one_hot(batch["text.ids"], 9)}) for n in MODELS}
untyped = inspect.unwrap  # as users call it: the tests' own type checker would refuse first


def seen(name):
    if name in ("gkd", "sequence_kd"):
        return writers()
    return classifiers()


@functools.cache
def writers():
    ids, mask = jax.numpy.zeros((16, 4), int), jax.numpy.ones((16, 4), bool)
    batch = on_device(make_batch()) | {"text.ids": ids, "text.mask": mask}
    return forward(WRITERS, {n: {"params": {}} for n in WRITERS}, batch, StepContext(0, jax.random.key(1)))[0]


@functools.cache
def classifiers():
    state, frozen = initialize(distil(MODELS, combine(task=task())), make_batch())
    return forward(MODELS, variables(state, frozen), on_device(make_batch()), StepContext(0, jax.random.key(1)))[0]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: methods.gkd(divergence="jds"),  # pyrefly: ignore[bad-argument-type]
            "gkd: divergence is 'jds'; expected 'jsd' or 'kl' or 'reverse_kl'",
        ),
        (
            lambda: methods.interchange({"student": "a", "techer": "b"}),
            "names student, techer; expected student and",
        ),
        (
            lambda: untyped(methods.logic_rules)({"r": lambda outputs: 1}),
            "rule 'r' is <function.*; give .function of outputs, conf",
        ),
    ],
)
def test_words_are_refused_at_once(make, said):
    with pytest.raises(UserError, match=said):
        make()


MISSPELT: dict[str, Any] = {
    "rslad": lambda **m: methods.rslad("image", attack=PGD(steps=1), **m),
    "ard": lambda **m: methods.ard("image", attack=PGD(steps=1), **m),
    "iad": lambda **m: methods.iad("image", attack=PGD(steps=1), **m),
    "adaad": lambda **m: methods.adaad("image", attack=PGD(steps=1), **m),
    "trades": lambda **m: methods.trades("image", attack=PGD(steps=1), **m),
    "mke": lambda **m: methods.mke(("image",), **m),
    "interchange": lambda **m: methods.interchange("features.image", **m),
    "sequence_kd": methods.sequence_kd,
    "gkd": methods.gkd,
}


@pytest.mark.full
@pytest.mark.parametrize("side", ["student", "teacher"])
@pytest.mark.parametrize("name", MISSPELT)
def test_a_misspelt_model(name, side):
    if (name, side) == ("trades", "teacher"):
        return
    outputs = seen(name)
    objective = combine(it=MISSPELT[name](**{side: "nobody"}))
    with pytest.raises(UserError, match="term 'it': .*'nobody'.*(there are|available models): .*student") as refused:
        objective.apply(*objective.init(outputs), outputs)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", MISSPELT)
def test_views_that_run_nothing(name):
    outputs = seen(name)
    objective = combine(it=MISSPELT[name]())
    still = Outputs(outputs.batch, outputs.by_model, {}, outputs.ctx)
    with pytest.raises(
        UserError, match=re.escape("term 'it': ") + ".*again: these outputs were created without models"
    ):
        objective.apply(*objective.init(still), still)


@pytest.mark.parametrize("name", ["rslad", "ard", "iad", "adaad", "trades"])
def test_a_misspelt_output_of_a_model_under_attack(name):
    outputs = seen(name)
    objective = combine(it=MISSPELT[name](output="logit"))
    with pytest.raises(UserError, match="term 'it': .*'logit'.*it has: "):
        objective.apply(*objective.init(outputs), outputs)
