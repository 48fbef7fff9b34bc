"""Numbers and words of methods that make no sense are refused by name, in the file and from the command line."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import gradients, losses, methods
from mmkd_jax.adversarial import PGD, attacks
from mmkd_jax.core.objective import combine, term
from mmkd_jax.core.state import init_state
from mmkd_jax.errors import UserError
from tests.methods.test_logic_rules import terms
from tests.small import distil, make_batch, net, soft, task

MODELS = {"teacher": net(6), "student": net(8)}
SPEC = {k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in make_batch().items()}


def pgd(**wrong):
    options: dict[str, Any] = {"eps": 0.5, "step_size": 0.1, "steps": 3} | wrong
    return attacks.pgd(lambda x: x.sum(-1), jnp.zeros((1, 2)), **options)


WRONG: dict[str, Any] = {
    "crd: temperature is -1.0; expected a number above 0": (methods.crd, 64, {"temperature": -1.0}),
    "crd: momentum is -2.0; expected a number from 0 to 1": (methods.crd, 64, {"momentum": -2.0}),
    "crd: negatives is 0; expected a whole number, 1 or more": (methods.crd, 64, {"negatives": 0}),
    "crd: width is 0; expected a whole number, 1 or more": (methods.crd, 64, {"width": 0}),
    "crd: size is True; expected": (methods.crd, True, {}),
    "rslad: attack is 0.1 .float.; expected PGD": (methods.rslad, "image", {"attack": 0.1}),
    "rslad: alpha is 3.0; expected a number from 0 to 1": (methods.rslad, "image", {"alpha": 3.0}),
    "pgd: norm is 'L2'; expected 'linf' or 'l2'": (pgd, {"norm": "L2"}),
    "pgd: eps is -1; expected a number from 0 on": (pgd, {"eps": -1}),
    "kl: weight is nan; expected a finite number": (soft, {"weight": float("nan")}),
    "kl: weight is inf; expected a finite number": (soft, {"weight": float("inf")}),
    "multi_teacher: by is 'luck'; expected 'mean' or": (methods.multi_teacher, ("a",), {"by": "luck"}),
    "word_kd: alpha is 2; expected": (methods.word_kd, {"alpha": 2}),
    "seed: size is 0; expected": (methods.seed, 0, {}),
    "logic_rules: imitation is -1; expected": (methods.logic_rules, {"r": (abs, 1.0)}, {"imitation": -1}),
    "reviewkd: width is -1; expected a whole number, 0 or": (methods.reviewkd, ("a",), ("b",), {"width": -1}),
    "cagrad: c is -1; expected a number from 0 on": (gradients.cagrad, {"c": -1}),
    "uncertainty: learning_rate is nan": (gradients.uncertainty, {"learning_rate": float("nan")}),
    "mke: noise is 'loud'.*; expected a number": (methods.mke, ("image",), {"noise": "loud"}),
}


@pytest.mark.parametrize("said", WRONG)
def test_nonsense_is_refused_at_once(said):
    function, *arguments, options = WRONG[said]
    with pytest.raises(UserError, match=said):
        function(*arguments, **options)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("it.temperature", -1.0, "term 'it': crd: temperature is -1.0; expected a number above 0"),
        ("it.momentum", 1.5, "term 'it': crd: momentum is 1.5; expected a number from 0 to 1"),
        ("robust.attack.eps", -1.0, "term 'robust': PGD: eps is -1.0; expected a number from 0 on"),
        ("task.weight", float("nan"), "task.weight is nan; expected a finite number"),
        ("gradients.c", -1.0, "cagrad: c is -1.0; expected a number from 0 on"),
    ],
)
def test_nonsense_from_the_command_line_is_refused(name, value, said):
    objective = combine(
        task=task(), it=methods.crd(64, negatives=4, width=4), robust=methods.rslad("image", attack=PGD(steps=1))
    )
    distillation = distil(MODELS, objective, gradients=gradients.cagrad())

    def initialize(hyperparams):
        return jax.eval_shape(
            lambda key: init_state(distillation, SPEC, key, hyperparams=hyperparams), jax.random.key(0)
        )

    initialize({name: 0.5})
    with pytest.raises(UserError, match=said):
        initialize({name: value})


def test_schedules_and_traced_values_pass():
    fade = optax.linear_schedule(0.0, 1.0, 10)
    methods.mke(("image",), consistency=fade)
    methods.logic_rules({"r": (lambda outputs: jnp.ones((1, 3)), 1.0)}, imitation=fade)
    methods.iad("image", introspection=fade)
    assert term(losses.kl, student="a.b", teacher="c.d", weight=fade)
    found = jax.jit(lambda eps, step_size: pgd(eps=eps, step_size=step_size))(0.5, 0.25)
    np.testing.assert_allclose(found, [[0.5, 0.5]])


def test_a_truth_outside_of_0_to_1_counts_as_the_nearest():
    def values(truth):
        return terms(methods.logic_rules({"r": (lambda outputs: jnp.array([truth]), 1.0)}))["rules"].values

    np.testing.assert_array_equal(values([-3.0, 0.5, 7.0]), values([0.0, 0.5, 1.0]))
