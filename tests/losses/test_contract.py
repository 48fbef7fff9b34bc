"""The contract of every loss, held against every row of `cases.py`: values, gradients, dtypes, extremes."""

import inspect
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mmkd_jax import losses

from .cases import CASES
from .harness import arrays, every, finite, hyper, mean, of_logits, only, value_and_gradients, zero


def test_every_loss_has_a_row():
    assert {n for n, f in vars(losses).items() if inspect.isfunction(f)} == {c.loss.__name__ for c in CASES.values()}


@every
def test_value_by_hand_eager_and_compiled(case):
    inputs, numbers, values = case.by_hand
    eager = case.loss(**arrays(inputs), **numbers)
    np.testing.assert_allclose(eager, values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        jax.jit(lambda x: case.loss(**x, **numbers))(arrays(inputs)), eager, rtol=1e-5, atol=1e-6
    )


@every
def test_formula(case):
    expected = case.reference(**case.inputs, **case.hyper)
    with jax.enable_x64(True):
        ours = jax.jit(lambda x: case.loss(**x, **hyper(case, jnp.float64)))(arrays(case.inputs))
        assert ours.dtype == jnp.float64
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-13)


@every
def test_gradients_are_finite_differences(case):
    with jax.enable_x64(True):
        inputs = arrays(case.inputs)
        rest = {k: x for k, x in inputs.items() if k not in case.floating}
        function = jax.jit(lambda *x: mean(case, dict(zip(case.floating, x, strict=True)) | rest))
        check_grads(function, [inputs[k] for k in case.floating], 1, modes=["rev"], rtol=1e-6, atol=1e-8)


@every
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(case, dtype):
    half = arrays(case.inputs, dtype)
    ours = jax.jit(lambda x: case.loss(**x, **hyper(case)))(half)
    assert ours.dtype == jnp.float32
    exact = {k: np.asarray(x, np.float64) if k in case.floating else np.asarray(x) for k, x in half.items()}
    np.testing.assert_allclose(ours, case.reference(**exact, **case.hyper), rtol=1e-4, atol=1e-5)


@only(lambda case: case.numbers)
def test_a_population_is_a_loop(case):
    inputs = arrays(case.inputs)
    numbers = {k: jnp.asarray(v) for k, v in case.hyper.items() if k in case.numbers}
    numbers = {k: numbers.get(k, jnp.asarray(0.5)) for k in case.numbers}
    static = {k: v for k, v in case.hyper.items() if k not in case.numbers}
    population = {k: jnp.stack([v, v * 0.5, v * 0.9]) for k, v in numbers.items()}
    one = jax.jit(lambda n: case.loss(**inputs, **n, **static))
    together = jax.jit(jax.vmap(one))(population)
    alone = jnp.stack([one({k: v[i] for k, v in population.items()}) for i in range(3)])
    assert float(jnp.abs(alone[0] - alone[1]).max()) > 1e-4  # the number matters
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


@every
def test_no_silent_promotion(case, strict):
    inputs = arrays(case.inputs)
    inputs[case.floating[0]] = inputs[case.floating[0]].astype(jnp.bfloat16)  # a bfloat16 student, a float32 teacher
    value, gradients = value_and_gradients(case, inputs)
    assert value.dtype == jnp.float32
    assert {k: g.dtype for k, g in gradients.items()} == {k: inputs[k].dtype for k in case.floating}


@only(lambda case: case.zero_if_same)
def test_a_student_equal_to_its_teacher_has_nothing_to_learn(case):
    inputs = arrays(case.inputs)
    inputs["student"] = inputs["teacher"]
    # the paper's norm has a kink there, and a compiler's rounding would decide on the side
    with jax.disable_jit(case.hyper.get("form") == "paper"):
        value, gradients = value_and_gradients(case, inputs)
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(gradients["student"], 0, atol=1e-6)


@every
def test_huge_inputs(case):
    """±1e4, alike, opposite and mixed: finite value, gradient and Hessian."""
    sign = {k: np.where(x > 0, 1e4, -1e4) for k, x in case.inputs.items() if k in case.floating}
    first = sign[case.floating[0]]
    for scale in (1.0, -1.0, 1e-2):
        inputs = arrays(case.inputs | sign | {case.floating[0]: first * scale})
        assert finite(value_and_gradients(case, inputs)), scale


@of_logits
def test_hessians_at_any_gap(case):
    """Probabilities that underflow, one after the other, leave no NaN in second derivatives."""
    rest = {k: x[:1] for k, x in arrays(case.inputs).items() if k not in case.floating}
    numbers = {k: jnp.ravel(v)[0] if k in case.numbers else v for k, v in case.hyper.items()}
    direction = jnp.array([0.0, -1.0, -1.1, 0.2, -0.5, -2.0])

    def value(student, gap):
        others = {k: (gap * direction[::-1])[None] for k in case.floating[1:]}
        return case.loss(**{case.floating[0]: student[None]}, **others, **rest, **numbers)[0]

    gaps = jnp.array([1.0, 20.0, 45.0, 60.0, 87.5, 90.0, 100.0, 200.0, 1e3, 1e4])
    hessians = jax.jit(jax.vmap(jax.hessian(value)))(gaps[:, None] * direction, gaps)
    assert finite(hessians)
    assert not zero(hessians[0])


@of_logits
def test_classes_at_minus_infinity_in_both_are_removed(case):
    inputs = arrays(case.inputs)
    without = {k: x[..., :-1] if k in case.floating else x for k, x in inputs.items()}
    masked = {k: x.at[..., -1].set(-jnp.inf) if k in case.floating else x for k, x in inputs.items()}
    value, gradients = value_and_gradients(case, masked)
    expected, wanted = value_and_gradients(case, without)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for k in case.floating:
        np.testing.assert_allclose(gradients[k][..., :-1], wanted[k], rtol=1e-4, atol=1e-6)
        assert zero(gradients[k][..., -1])
    if "temperature" in case.hyper:  # a learned temperature
        slope = jax.jit(jax.grad(lambda t: jnp.sum(case.loss(**masked, **(hyper(case) | {"temperature": t})))))
        assert finite(slope(jnp.asarray(case.hyper["temperature"], jnp.float32)))


@only(lambda case: case.logits and "teacher" in case.inputs)
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_class_at_minus_infinity_on_one_side_gives_no_nan(case, side):
    inputs = arrays(case.inputs)
    inputs[side] = inputs[side].at[..., -1].set(-jnp.inf)
    value, gradients = value_and_gradients(case, inputs)
    assert not any(bool(jnp.isnan(x).any()) for x in jax.tree.leaves((value, gradients)))
    never = {losses.kl: "student", losses.dkd: "student", losses.reverse_kl: "teacher", losses.jsd: None}
    assert bool(jnp.isinf(value)) == (never.get(case.loss, side) == side)  # as the docstrings say


@only(lambda case: case.logits or case.loss is losses.cosine)
def test_every_leading_axis_is_kept(case):
    inputs = {k: x[:4] for k, x in arrays(case.inputs).items()}
    numbers = {k: v[:4] if jnp.ndim(v) else v for k, v in hyper(case).items()}
    flat = jax.jit(lambda x, n: case.loss(**x, **n))(inputs, numbers)
    fold = partial(jax.tree.map, lambda x: x.reshape(2, 2, *x.shape[1:]) if jnp.ndim(x) else x)
    values = jax.jit(lambda x, n: case.loss(**x, **n))(fold(inputs), fold(numbers))
    np.testing.assert_allclose(values, flat.reshape(2, 2), rtol=1e-5, atol=1e-6)


@every
def test_a_batch_of_one(case):
    one = replace(case, hyper={k: v[:1] if np.ndim(v) else v for k, v in case.hyper.items()})
    assert finite(value_and_gradients(one, {k: x[:1] for k, x in arrays(case.inputs).items()}))
