"""A whole training is as many steps; a population is as many single trainings."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import losses
from mmkd_jax.core import population
from mmkd_jax.core.model import plain
from mmkd_jax.core.objective import combine, term
from mmkd_jax.core.state import Distillation, init_state, variables
from mmkd_jax.core.step import make_step

ROWS = {"x": jax.random.normal(jax.random.key(1), (6, 3)), "label": jnp.arange(6) % 2, "example_id": jnp.arange(6)}


def line(width=3):
    def init(key, batch):
        return {"w": jax.random.normal(key, (width, 2))}

    return plain(lambda w, batch: {"logits": batch["x"] @ w["w"]}, init)


def distillation():
    objective = combine(
        task=term(losses.cross_entropy, logits="student.logits", labels="batch.label"),
        soft=term(losses.kl, student="student.logits", teacher="teacher.logits", temperature=2.0),
    )
    return Distillation({"teacher": line(), "student": line()}, objective, optax.adam(0.1))


def batch(step):  # another half in each step
    half = step % 2 + 2 * jnp.arange(3)
    return jax.tree.map(lambda x: x[half], ROWS)


def test_a_whole_training_is_as_many_steps():
    key = jax.random.key(3)
    given = {"teacher": {"params": {"w": jnp.ones((3, 2)) * jnp.array([1.0, -1.0])}}}
    hyperparams = {"soft.temperature": 3.0}
    state, frozen = init_state(distillation(), jax.eval_shape(batch, 0), key, given, hyperparams)
    step = jax.jit(make_step(distillation()))
    for i in range(5):
        state, _ = step(state, frozen, batch(i))
    whole = jax.jit(lambda key: population.train(distillation(), batch, 5, key, given, hyperparams))(key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), whole, variables(state, frozen))


@pytest.mark.full
@pytest.mark.parametrize("width", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_members_are_single_trainings_whoever_is_beside_them(width):
    def member(rows, seed, temperature):
        hyperparams = {"soft.temperature": temperature}
        after = population.train(distillation(), lambda step: rows, 4, jax.random.key(seed), hyperparams=hyperparams)
        return {"w": after["student"]["params"]["w"], "seed": seed}

    seeds, temperatures = np.arange(5), np.linspace(1, 3, 5, dtype=np.float32)
    together = population.members(member, width)(ROWS, seeds, temperatures)
    np.testing.assert_array_equal(together["seed"], seeds)
    for i, (seed, temperature) in enumerate(zip(seeds, temperatures, strict=True)):
        alone = jax.jit(member)(ROWS, seed, temperature)
        np.testing.assert_allclose(together["w"][i], alone["w"], rtol=1e-5, atol=1e-6)
    again = population.members(member, width)(ROWS, seeds[:3], temperatures[:3])
    if width == 1:  # bit for bit
        np.testing.assert_array_equal(again["w"], together["w"][:3])
