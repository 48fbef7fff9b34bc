import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.core.model import StepContext, predict
from mmkd_jax.models import mlp
from tests.small import applied

ROWS = {"a": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([[2.0], [-1.0]]), "example_id": jnp.arange(2)}


def test_it_is_the_formula():
    model = mlp(("a", "b"), (4, 3, 2))
    variables = model.init(jax.random.key(0), ROWS)
    x = np.concatenate([ROWS["a"], ROWS["b"]], -1)
    (one, two, three) = jax.tree.map(np.asarray, variables["params"]["layers"])
    first = np.maximum(x @ one["weight"] + one["bias"], 0)
    second = np.maximum(first @ two["weight"] + two["bias"], 0)
    found = predict(model, variables, ROWS)
    for name, expected in (
        ("hidden.0", first),
        ("hidden.1", second),
        ("logits", second @ three["weight"] + three["bias"]),
    ):
        np.testing.assert_allclose(found[name], expected, atol=1e-6)


@pytest.mark.parametrize(("start", "bound", "bias"), [("uniform", 50**-0.5, 50**-0.5), ("glorot", (6 / 250) ** 0.5, 0)])
def test_where_it_starts(start, bound, bias):
    rows = {"x": jnp.zeros((1, 50))}
    (layer,) = mlp("x", (200,), start).init(jax.random.key(0), rows)["params"]["layers"]
    for values, limit in ((layer["weight"], bound), (layer["bias"], bias)):
        assert np.abs(values).max() <= limit and np.abs(values).max() >= 0.95 * limit
        np.testing.assert_allclose(values.std(), limit / 3**0.5, rtol=0.1)


def test_another_start_is_refused():
    with pytest.raises(ValueError, match="'zeros'.*uniform, glorot"):
        mlp("x", (2,), "zeros")


def test_dropout_is_drawn_in_training_only_and_keeps_the_mean():
    model, rows = mlp("x", (64, 3), dropout=(0.25, 0.5)), {"x": jnp.ones((400, 200)), "example_id": jnp.arange(400)}
    variables = model.init(jax.random.key(0), rows)
    variables["params"]["layers"][0] = {"weight": jnp.eye(200, 64), "bias": jnp.zeros(64)}

    def seen(key, train=True):
        return applied(model, variables, rows, StepContext(0, jax.random.key(key), train=train))[0]["hidden.0"]

    np.testing.assert_array_equal(seen(0, train=False), 1)
    assert np.unique(seen(0)).tolist() == pytest.approx([0, 4 / 3])
    assert np.mean(seen(0)) == pytest.approx(1, abs=0.02)
    assert np.mean(seen(0) == seen(1)) == pytest.approx(0.75**2 + 0.25**2, abs=0.02)
    np.testing.assert_array_equal(seen(0), seen(0))


@pytest.mark.parametrize("dropout", [(0.5, 0.5, 0.5), (1.0,), (-0.1,)])
def test_shares_that_are_none_are_refused(dropout):
    with pytest.raises(ValueError, match="dropout is .* up to 2 rates"):
        mlp("x", (4, 2), dropout=dropout)
