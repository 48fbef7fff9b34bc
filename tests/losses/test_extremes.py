"""The extremes of the contract: huge logits, classes at −inf, rows that are zero, equal, opposite or alone."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses
from tests.losses.harness import (
    arrays,
    by_rows,
    close,
    coupled,
    every,
    finite,
    hyper,
    largest,
    of_logits,
    of_pairs,
    of_rows,
    only,
    run,
    with_student,
)
from tests.losses.harness import zero as all_zero


@pytest.mark.slow
@only(lambda case: case.zero_if_same)
def test_a_student_equal_to_its_teacher_has_nothing_to_learn(case):
    with jax.enable_x64(True):
        inputs = arrays(case.inputs)
        inputs["student"] = inputs["teacher"]
        value, _, gradients = run(case, inputs)
        close(value, 0.0, 0, 1e-12)
        close(gradients["student"], jax.tree.map(jnp.zeros_like, gradients["student"]), 0, 1e-7)


@every
def test_huge_inputs(case):
    """±1e4, alike, opposite and mixed: finite value and gradient."""
    sign = {k: jax.tree.map(lambda x: np.where(x > 0, 1e4, -1e4), case.inputs[k]) for k in case.floating}
    first = case.floating[0]
    for scale in (1.0, -1.0, 1e-2):
        huge = sign | {first: jax.tree.map(lambda x, scale=scale: x * scale, sign[first])}
        assert finite(run(case, arrays(case.inputs | huge))), scale


@pytest.mark.slow
@of_logits
def test_hessians_at_any_gap(case):
    """Probabilities that underflow, one after the other, leave no NaN in second derivatives."""
    inputs = by_rows(case, lambda x: x[:1], arrays(case.inputs))
    numbers = {k: jnp.ravel(v)[0] if k in case.numbers else v for k, v in hyper(case).items()}
    direction = jnp.array([0.0, -1.0, -1.1, 0.2, -0.5, -2.0])[: inputs[case.logits[0]].shape[-1]]

    def value(student, gap):
        logits = {case.logits[0]: student} | {k: gap * direction[::-1] for k in case.logits[1:]}
        return jnp.sum(
            case.loss(**inputs | {k: jnp.broadcast_to(x, inputs[k].shape) for k, x in logits.items()}, **numbers)
        )

    gaps = jnp.array([1.0, 20.0, 45.0, 60.0, 87.5, 90.0, 100.0, 200.0, 1e3, 1e4])
    hessians = jax.jit(jax.vmap(jax.hessian(value)))(gaps[:, None] * direction, gaps)
    assert finite(hessians)
    assert not all_zero(hessians[0])


@pytest.mark.slow
@of_logits
def test_classes_at_minus_infinity_in_both_are_removed(case):
    """They get no gradient, and a learned temperature stays finite."""
    with jax.enable_x64(True):
        inputs = arrays(case.inputs)
        without = {k: np.asarray(x[..., :-1] if k in case.floating else x) for k, x in inputs.items()}
        masked = {k: x.at[..., -1].set(-jnp.inf) if k in case.logits else x for k, x in inputs.items()}
        _, values, gradients = run(case, masked)
        close(values, case.reference(**without, **case.hyper), 1e-9, 1e-12)
        assert finite(gradients)
        for k in case.logits:
            assert all_zero(gradients[k][..., -1])
            assert not all_zero(gradients[k][..., :-1])
        if "temperature" in case.hyper:
            numbers = hyper(case, jnp.float64)
            t = numbers.pop("temperature")
            assert finite(jax.jit(jax.grad(lambda t: jnp.sum(case.loss(**masked, **numbers, temperature=t))))(t))


@only(lambda case: case.infinite is not None and "teacher" in case.inputs)
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_class_at_minus_infinity_on_one_side_gives_no_nan(case, side):
    inputs = arrays(case.inputs)
    inputs[side] = inputs[side].at[..., -1].set(-jnp.inf)
    value, values, gradients = run(case, inputs)
    assert not any(bool(jnp.isnan(x).any()) for x in jax.tree.leaves((value, values, gradients)))
    assert bool(jnp.isinf(value)) == (side in case.infinite)  # as the docstring says


@of_logits
def test_a_row_without_a_class_gives_no_nan(case):
    inputs = arrays(case.inputs)
    gone = {k: inputs[k].at[0].set(-jnp.inf) for k in case.logits}
    _, values, gradients = run(case, inputs | gone)
    assert not any(bool(jnp.isnan(x).any()) for x in jax.tree.leaves((values, gradients)))


def test_nothing_of_something_infinite_is_nothing():
    never, even, label = jnp.array([[1.0, 0.0, -jnp.inf]]), jnp.zeros((1, 3)), jnp.array([2])
    for value in (
        losses.dkd(never, even, label, alpha=0.0, beta=0.0),
        losses.nkd(never, even, jnp.array([0]), gamma=0.0),
        losses.wsld(jnp.array([[1e4, 0.0, -jnp.inf]]), even, jnp.array([0])),
        losses.cross_entropy(never, label, label_smoothing=1.0),
    ):
        assert finite(value)


@only(lambda case: case.still_at_zero)
@pytest.mark.parametrize("size", [1e-14, 1e-30, 1e14])
def test_tiny_and_huge_rows_have_a_direction(case, size):
    """The square of their norm is no float; their gradient is large or small, but one."""
    inputs = with_student(case, arrays(case.inputs), lambda x: x * size)
    value, _, gradients = run(case, inputs)
    assert finite((value, gradients))


@pytest.mark.slow
def test_rows_and_classes_that_do_not_vary_teach_nothing():
    """Their mean is rounded: what is left is noise, of which a norm would make a direction."""
    t = jnp.asarray(np.random.default_rng(0).normal(size=(6, 10)), jnp.float32)
    for loss in (partial(losses.dist, eps="added"), partial(losses.dist, eps="clamped")):
        slope = jax.grad(lambda s, loss=loss: jnp.sum(loss(s, t)))
        assert largest(slope(jnp.zeros((6, 10)))) == 0
    for constant in (0.1, 1234.567):
        z, back = jax.vjp(losses.standardize, jnp.full((1, 1000), constant))
        assert all_zero((z, back(t[:1, :1] * jnp.ones((1, 1000)))))


@of_rows
def test_zero_rows(case):
    inputs = with_student(case, arrays(case.inputs), lambda x: x.at[1].set(0))
    value, _, gradients = run(case, inputs)
    assert finite((value, gradients))
    assert largest(gradients) < 1e3
    if case.still_at_zero:
        assert all_zero(jax.tree.map(lambda g: g[1], gradients["student"]))
        assert not all_zero(jax.tree.map(lambda g: g[0], gradients["student"]))
    value, _, gradients = run(case, with_student(case, inputs, jnp.zeros_like))
    assert finite((value, gradients))
    if case.still_at_zero or (case.couples and not case.places):
        assert all_zero(gradients["student"])


@coupled
def test_duplicate_rows(case):
    inputs = with_student(case, arrays(case.inputs), lambda x: x.at[1].set(x[0]))
    value, _, gradients = run(case, inputs)
    assert finite((value, gradients))
    assert largest(gradients) < 1e3
    value, _, gradients = run(case, with_student(case, inputs, lambda x: jnp.broadcast_to(x[:1], x.shape)))
    assert finite((value, gradients))
    if case.loss in (losses.rkd_distance, losses.rkd_angle):  # no pair has a direction
        assert all_zero(gradients["student"])


@pytest.mark.slow
@of_pairs
def test_a_model_fused_in(case):
    """A compiler rounds a row differently in different places; a row's relation to itself is not to suffer."""

    def embed(x):
        return x / jnp.sqrt(jnp.sum(x * x, -1, keepdims=True))

    inputs = jax.tree.map(lambda v: v.reshape(len(v), -1), arrays(case.inputs))
    embedded, back = jax.vjp(partial(jax.tree.map, embed), inputs)
    expected, _, gradients = run(case, embedded)
    (wanted,) = back(gradients)
    fused, gradients = jax.jit(jax.value_and_grad(lambda x: run(case, jax.tree.map(embed, x))[0]))(inputs)
    np.testing.assert_allclose(fused, expected, rtol=1e-4)
    close(gradients, wanted, 1e-3, 1e-5)


@pytest.mark.slow
@of_pairs
def test_opposite_rows(case):
    """A cosine of −1 may round to less: tried on many pairs."""
    rng = np.random.default_rng(1)

    def opposite(scale):
        x = rng.normal(size=(200, 1, 8))
        return np.concatenate([x, -scale * x], 1)

    for scale in (1, 3.3):
        inputs = {k: jax.tree.map(lambda _, s=scale: opposite(s), v) for k, v in case.inputs.items()}
        assert finite(jax.vmap(lambda x: run(case, x))(arrays(inputs)))


@every
@pytest.mark.slow
def test_a_batch_of_one(case):
    inputs, numbers = by_rows(case, lambda x: x[:1], (case.inputs, case.hyper))
    assert finite(run(replace(case, hyper=numbers), arrays(inputs)))
