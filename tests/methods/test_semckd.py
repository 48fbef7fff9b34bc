"""SemCKD: projections, learned attention over pairs of layers, and which rows are partners."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.hyperparameters import numbers
from mmkd_jax.methods import semckd
from mmkd_jax.methods.semckd import Match
from mmkd_jax.views import Context
from tests.methods.stages import MODELS, check_mechanism, check_padding, pictures, views_of
from tests.small import begin, distil, gap

pytestmark = pytest.mark.usefixtures("strict")
LAYERS = {
    "student": ("student.hidden.image.0", "student.hidden.image.1"),
    "teacher": ("teacher.hidden.image.0", "teacher.embedding"),
}
METHOD = semckd(**LAYERS)


def test_it_teaches():
    check_mechanism(METHOD, ("encoders_image",))


def test_padding():
    check_padding(METHOD)


def maps(seed, *shapes):
    draw = np.random.default_rng(seed)
    return tuple(jnp.asarray(draw.normal(size=(8, *shape)), jnp.float32) for shape in shapes)


def test_weights_and_sizes():
    student, teacher = maps(0, (4, 4, 3), (2, 2, 5)), maps(1, (8, 8, 2), (4, 4, 6), (1, 1, 7))
    ctx = Context(0, jax.random.key(0), train=False)
    where, match = jnp.arange(8) != 2, Match(2)
    variables = match.init(ctx.key, student, teacher, where, jnp.float32(1), ctx)
    look = jax.jit(lambda t: match.apply(variables, student, teacher, where, t, ctx))
    projected, targets, weights = look(jnp.float32(0.5))
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
    assert float(jnp.abs(look(jnp.float32(50.0))[2] - 1 / 3).max()) < 0.01 < float(jnp.abs(weights - 1 / 3).max())


def test_the_weights_are_learned():
    """Both MLPs get a gradient, and the temperature is a number."""
    state, frozen = begin(distil(MODELS, METHOD), pictures())
    assert numbers(state.memory) == {"weight": 1.0, "temperature": 1.0}
    views = views_of(state, frozen, pictures())

    def values(params, memory):
        return jnp.sum(METHOD.apply(params, memory, views)[0].values)

    run = jax.jit(jax.value_and_grad(values))
    value, slope = run(state.params["objective"], state.memory)
    for name, g in slope.items():
        assert gap(g, jax.tree.map(jnp.zeros_like, g)) > 1e-6, name
    cold = state.memory | {"numbers": state.memory["numbers"] | {"temperature": jnp.float32(0.1)}}
    assert abs(run(state.params["objective"], cold)[0] - value) > 1e-3


def test_the_teacher_gets_no_gradient():
    state, frozen = begin(distil(MODELS, METHOD), pictures())
    views = views_of(state, frozen, pictures())

    def value(x):
        seen = views.add(teacher={**views.outputs["teacher"], "hidden.image.0": x})
        return jnp.sum(METHOD.apply(state.params["objective"], state.memory, seen)[0].values)

    assert not np.any(jax.jit(jax.grad(value))(views["teacher.hidden.image.0"]))
