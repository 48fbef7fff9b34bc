"""MGD: masks that belong to step and example, what they hide, and that alignment and generation are trained."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.core.hyperparams import hyperparams_of, with_hyperparams
from mmkd_jax.methods import mgd
from tests.methods.trained import MAPS, TEACHER, everything_learns, first_outputs, gradients
from tests.small import compiled, make_batch

pytestmark = pytest.mark.usefixtures("strict")


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["places", "channels"])
def test_everything_learns(unit):
    everything_learns(mgd(**MAPS, unit=unit, weight=1e-2))


def hidden(method, step=0, batch=None):
    """Where the aligned student's map gets no gradient: a pixel alone is masked, its neighbors see it no less."""
    outputs = first_outputs(step, batch)
    same = dataclasses.replace(outputs, by_model={**outputs.by_model, "student": outputs.by_model["teacher"]})
    return np.asarray(gradients(method, same)[1]["student"]["hidden.image.0"] == 0)


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["places", "channels"])
def test_the_mask_belongs_to_step_and_example(unit):
    method, batch = mgd(**MAPS, masked=0.4, unit=unit), make_batch() | {"valid": np.ones(16, bool)}
    one = hidden(method, 0, batch)
    assert 0.2 < one.mean() < 0.6
    whole = one.all(-1) | ~one.any(-1) if unit == "places" else one.all((1, 2)) | ~one.any((1, 2))
    assert whole.all()
    assert len({m.tobytes() for m in one}) > 4  # each row has its own
    order = np.random.default_rng(0).permutation(16)
    assert np.array_equal(hidden(method, 0, {k: x[order] for k, x in batch.items()}), one[order])
    assert not np.array_equal(hidden(method, 1, batch), one)


def test_the_share_is_a_number():
    method, outputs = mgd(**MAPS, weight=0.5, masked=0.3), first_outputs()
    params, state = compiled(method).init(outputs)
    assert {k: round(float(v), 6) for k, v in hyperparams_of(state).items()} == {"weight": 0.5, "masked": 0.3}
    apply = jax.jit(lambda state: compiled(method).apply(params, state, outputs))
    term, after = apply(state)
    assert jax.tree.structure(after) == jax.tree.structure(state) and float(after["hyperparams"]["masked"]) > 0
    values = [np.asarray(apply(with_hyperparams(state, {"masked": m}))[0].values) for m in (0.0, 0.3, 1.0)]
    np.testing.assert_array_equal(values[1], term.values)
    assert np.abs(values[0] - values[1]).max() > 1e-3

    # all masked: the biases alone, which start at 0, stand against the teacher
    np.testing.assert_allclose(values[2], jnp.sum(outputs[MAPS["teacher"]] ** 2, (1, 2, 3)), rtol=1e-5)


def test_channels_are_aligned_only_where_they_differ():
    outputs = first_outputs()
    assert mgd(**MAPS).init(outputs)[0]["align"]["student"]["kernel"].shape == (4, TEACHER)
    same = dataclasses.replace(outputs, by_model={**outputs.by_model, "student": outputs.by_model["teacher"]})
    assert mgd(**MAPS).init(same)[0]["align"] == {}
