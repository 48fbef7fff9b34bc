"""What every cross-modal method owes: it teaches, what is frozen stays so, and padding changes nothing."""

import jax
import numpy as np
import pytest

from mmkd_jax.core.hyperparams import hyperparams_of
from mmkd_jax.core.objective import combine, total
from tests.methods.cross import METHODS, MODELS, TRAINED, first_outputs
from tests.small import (
    advance,
    compiled,
    distil,
    equal,
    gap,
    initialize,
    make_batch,
    make_batches,
    set_hyperparams,
    stepper,
    task,
)

pytestmark = pytest.mark.usefixtures("strict")


@pytest.mark.slow
def test_each_matters_and_the_teachers_stay_as_they_are():
    parts = combine(task=task(where="labelled"), **METHODS)
    distillation = distil(MODELS, parts, trained=TRAINED)
    state, frozen = initialize(distillation)
    before = jax.tree.map(np.array, frozen)
    step = stepper(distillation)
    last, values, terms = advance(step, state, frozen, make_batches())
    assert equal(frozen, before) and np.isfinite(values).all()
    for name, value in terms.items():
        assert np.abs(value).max() > 1e-4, name
    for (path, x), y in zip(
        jax.tree.leaves_with_path(last.params["objective"]), jax.tree.leaves(state.params["objective"]), strict=True
    ):
        assert not np.array_equal(x, y), path
    assert not equal(last.objective_state["c2kd"]["state"], state.objective_state["c2kd"]["state"])

    first = step(state, frozen, make_batch())[0].params
    for name in METHODS:
        weights = [
            k for k in hyperparams_of(state.objective_state) if k.startswith(f"{name}.") and k.endswith("weight")
        ]
        silent = step(set_hyperparams(state, dict.fromkeys(weights, 0.0)), frozen, make_batch())[0].params
        assert weights and max(gap(first[m], silent[m]) for m in TRAINED) > 1e-5, name


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_padding(name):
    """Whatever stands in padding rows changes no term."""
    batch = make_batch()
    spoilt = {
        k: np.where(batch["valid"].reshape(-1, *[1] * (x.ndim - 1)), x, 7) for k, x in batch.items() if x.ndim > 1
    }
    seen = [first_outputs(b) for b in (batch, batch | {k: x.astype(np.float32) for k, x in spoilt.items()})]
    params, state = compiled(METHODS[name]).init(seen[0])
    one, other = (total(compiled(METHODS[name]).apply(params, state, outputs)[0])[1] for outputs in seen)
    for term in one:
        np.testing.assert_allclose(one[term][0], other[term][0], rtol=1e-4, atol=1e-5)
        assert one[term][1] == other[term][1]
