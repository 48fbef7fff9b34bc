from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax.errors import UserError
from mmkd_jax.training.max_norm import max_norm


def test_columns_stay_within_the_limit_and_others_move_as_they_would():
    params = {"weight": jax.random.normal(jax.random.key(0), (50, 8)), "bias": jnp.ones(8)}
    gradient = jax.tree.map(lambda p: jax.random.normal(jax.random.key(1), p.shape), params)
    free, bound = optax.sgd(0.1), optax.chain(optax.sgd(0.1), max_norm(7.0))
    expected: Any = optax.apply_updates(params, free.update(gradient, free.init(params))[0])
    found: Any = optax.apply_updates(params, bound.update(gradient, bound.init(params), params)[0])
    norms = np.linalg.norm(expected["weight"], axis=0)
    assert (norms > 7).any() and (norms < 7).any()
    np.testing.assert_allclose(np.linalg.norm(found["weight"], axis=0), np.minimum(norms, 7), rtol=1e-5)
    np.testing.assert_allclose(found["weight"], expected["weight"] * np.minimum(1, 7 / norms), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["bias"], expected["bias"])


def test_bad_input_is_named():
    with pytest.raises(UserError, match="limit is 0"):
        max_norm(0)
    with pytest.raises(UserError, match="needs the parameters"):
        max_norm(1.0).update({}, optax.EmptyState())
