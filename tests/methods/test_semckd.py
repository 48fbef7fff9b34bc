"""SemCKD: projections, learned attention over pairs of layers, and which rows are partners."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.core.hyperparams import hyperparams_of
from mmkd_jax.core.model import StepContext
from mmkd_jax.methods import semckd
from mmkd_jax.methods.features.semckd import Match
from tests.methods.stages import MODELS, check_mechanism, check_padding, pictures, views_of
from tests.small import compiled, distil, gap, initialize

pytestmark = pytest.mark.usefixtures("strict")
LAYERS = {
    "student": ("student.hidden.image.0", "student.hidden.image.1"),
    "teacher": ("teacher.hidden.image.0", "teacher.embedding"),
}
METHOD = semckd(**LAYERS)


@pytest.mark.slow
def test_it_teaches():
    check_mechanism(METHOD, ("encoders_image",))


@pytest.mark.slow
def test_padding():
    check_padding(METHOD)


def maps(seed, *shapes):
    draw = np.random.default_rng(seed)
    return tuple(jnp.asarray(draw.normal(size=(8, *shape)), jnp.float32) for shape in shapes)


@pytest.mark.slow
def test_weights_and_sizes():
    student, teacher = maps(0, (4, 4, 3), (2, 2, 5)), maps(1, (8, 8, 2), (4, 4, 6), (1, 1, 7))
    ctx = StepContext(0, jax.random.key(0), train=False)
    where, match = jnp.arange(8) != 2, Match(2)
    variables = match.init(ctx.key, student, teacher, where, jnp.float32(1), ctx)
    first_outputs = jax.jit(lambda t: match.apply(variables, student, teacher, where, t, ctx))
    projected, targets, weights = first_outputs(jnp.float32(0.5))
    sizes = [(4, 4, 2), (4, 4, 6), (1, 1, 7), (2, 2, 2), (2, 2, 6), (1, 1, 7)]  # the smaller of each pair
    assert [x.shape[1:] for x in projected] == [x.shape[1:] for x in targets] == sizes
    np.testing.assert_allclose(targets[0][:, 0, 0], teacher[0][:, :2, :2].mean((1, 2)), rtol=1e-5, atol=1e-6)

    def embedded(x, first, second):
        x = np.where(where.reshape(-1, 1), np.asarray(x).reshape(8, -1), 0)
        h = np.maximum((x @ x.T) @ first["kernel"] + first["bias"], 0)
        h = h @ second["kernel"] + second["bias"]
        return h / np.maximum(np.linalg.norm(h, axis=1, keepdims=True), 1e-12)

    layers = iter([jax.tree.map(np.asarray, variables["params"][f"Dense_{i}"]) for i in range(10)])
    queries, keys = (np.stack([embedded(x, next(layers), next(layers)) for x in xs], 1) for xs in (student, teacher))
    assert queries.shape == (8, 2, 4)  # rows of the batch / factor
    energy = np.exp(np.einsum("bsd,btd->bst", queries, keys) / 0.5)
    np.testing.assert_allclose(weights, energy / energy.sum(-1, keepdims=True), rtol=1e-4)
    assert (
        float(jnp.abs(first_outputs(jnp.float32(50.0))[2] - 1 / 3).max()) < 0.01 < float(jnp.abs(weights - 1 / 3).max())
    )


@pytest.mark.slow
def test_the_weights_are_learned():
    """Both MLPs get a gradient, and the temperature is a number."""
    state, frozen = initialize(distil(MODELS, METHOD), pictures())
    assert hyperparams_of(state.objective_state) == {"weight": 1.0, "temperature": 1.0}
    outputs = views_of(state, frozen, pictures())

    def values(params, state):
        return jnp.sum(compiled(METHOD).apply(params, state, outputs)[0].values)

    run = jax.jit(jax.value_and_grad(values))
    value, slope = run(state.params["objective"], state.objective_state)
    for name, g in slope.items():
        assert gap(g, jax.tree.map(jnp.zeros_like, g)) > 1e-6, name
    cold = state.objective_state | {
        "hyperparams": state.objective_state["hyperparams"] | {"temperature": jnp.float32(0.1)}
    }
    assert abs(run(state.params["objective"], cold)[0] - value) > 1e-3


def test_the_teacher_gets_no_gradient():
    state, frozen = initialize(distil(MODELS, METHOD), pictures())
    outputs = views_of(state, frozen, pictures())

    def value(x):
        seen = outputs.add(teacher={**outputs.by_model["teacher"], "hidden.image.0": x})
        return jnp.sum(compiled(METHOD).apply(state.params["objective"], state.objective_state, seen)[0].values)

    assert not np.any(jax.jit(jax.grad(value))(outputs["teacher.hidden.image.0"]))
