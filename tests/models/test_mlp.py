import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.models import mlp
from mmkd_jax.population import answer

ROWS = {"a": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([[2.0], [-1.0]]), "example_id": jnp.arange(2)}


def test_it_is_the_formula():
    model = mlp(("a", "b"), (4, 3, 2))
    variables = model.init(jax.random.key(0), ROWS)
    x = np.concatenate([ROWS["a"], ROWS["b"]], -1)
    (one, two, three) = jax.tree.map(np.asarray, variables["params"]["layers"])
    first = np.maximum(x @ one["weight"] + one["bias"], 0)
    second = np.maximum(first @ two["weight"] + two["bias"], 0)
    found = answer(model, variables, ROWS)
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
