"""SRRL: the teacher's own head on the student's features, by patching."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses
from mmkd_jax.core.hyperparams import hyperparams_of, with_hyperparams
from mmkd_jax.core.model import cached
from mmkd_jax.errors import UserError
from mmkd_jax.methods import srrl
from tests.methods.stages import MODELS, check_mechanism, check_padding, pictures, views_of
from tests.small import compiled, distil, gap, initialize

pytestmark = pytest.mark.usefixtures("strict")


METHOD = srrl(alpha=0.5, beta=2.0)


@pytest.mark.full
def test_it_teaches():
    check_mechanism(METHOD, ("encoders_image", "Dense_0"))


@pytest.mark.full
def test_padding():
    check_padding(METHOD)


@pytest.mark.full
def test_the_head_is_the_teachers():
    state, frozen = initialize(distil(MODELS, METHOD), pictures())
    outputs = views_of(state, frozen, pictures(), train=False)
    assert hyperparams_of(state.objective_state) == {"alpha": 0.5, "beta": 2.0, "weight": 1.0}
    found, _ = compiled(METHOD).apply(state.params["objective"], state.objective_state, outputs)
    kernel = state.params["objective"]["Dense_0"]["kernel"]
    z = jnp.maximum(outputs["student.embedding"] @ kernel / np.float32(np.sqrt(1 + 1e-5)), 0)
    head = frozen["teacher"]["params"]["Classifier_0"]["Dense_0"]
    sides = ((z, z @ head["kernel"] + head["bias"][None]), (outputs["teacher.embedding"], outputs["teacher.logits"]))
    np.testing.assert_allclose(found.values, losses.srrl(*sides, alpha=0.5, beta=2.0), rtol=1e-4)


def test_the_logits_teach_through_the_head():
    """Without the logits' term the student's features get another gradient; the teacher gets none."""
    state, frozen = initialize(distil(MODELS, METHOD), pictures())
    outputs = views_of(state, frozen, pictures())

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradient(x, y, objective_state):
        model_outputs = {n: {**outputs.by_model[n], "embedding": v} for n, v in (("student", x), ("teacher", y))}
        return jnp.sum(
            compiled(METHOD).apply(state.params["objective"], objective_state, outputs.add(**model_outputs))[0].values
        )

    gradients = []
    for beta in (0.0, 2.0):
        objective_state = with_hyperparams(state.objective_state, {"beta": beta})
        mine, teachers = gradient(outputs["student.embedding"], outputs["teacher.embedding"], objective_state)
        assert not np.any(teachers)
        gradients.append(mine)
    assert gap(*gradients) > 1e-3


def test_a_cached_teacher_is_refused():
    batch = pictures()
    batch |= {f"teacher.{k}": np.zeros((16, n), np.float32) for k, n in (("embedding", 6), ("logits", 3))}
    with pytest.raises(UserError, match="'teacher' is cached and cannot be run on another input"):
        initialize(distil(MODELS | {"teacher": cached("teacher")}, srrl()), batch)
