"""VID: what the regressor and the variances compute, and that both are trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.core.hyperparams import hyperparams_of
from mmkd_jax.errors import UserError
from mmkd_jax.methods import vid
from tests.methods.trained import MAPS, STUDENT, TEACHER, everything_learns, first_outputs
from tests.small import compiled, make_batch

pytestmark = pytest.mark.usefixtures("strict")


@pytest.mark.full
def test_everything_learns():
    state, last, _ = everything_learns(vid(**MAPS))
    start, end = (np.asarray(jax.nn.softplus(s.params["objective"]["own"]["scale"])) for s in (state, last))
    np.testing.assert_allclose(start, 5, rtol=1e-4)
    assert np.all(end < 5 - 1e-3)  # the features vary less than that: the variances shrink


@pytest.mark.full
@pytest.mark.parametrize("paths", [MAPS, {}], ids=["maps", "embeddings"])
def test_values(paths):
    outputs = first_outputs()
    method = vid(**paths, hidden=7, variance=2.0, weight=0.5, where="present.audio")
    params, state = compiled(method).init(outputs)
    assert hyperparams_of(state) == {"weight": 0.5}
    names = {"student": "student.embedding", "teacher": "teacher.embedding"} | paths
    s, t = (np.asarray(outputs[p], np.float64) for p in names.values())
    kernels = [np.asarray(params["regressor"][f"Dense_{i}"]["kernel"]) for i in range(3)]
    if paths:
        assert [k.shape for k in kernels] == [(STUDENT, 7), (7, 7), (7, TEACHER)]
    mean = np.maximum(np.maximum(s @ kernels[0], 0) @ kernels[1], 0) @ kernels[2]
    values = ((t - mean) ** 2 / 2 + np.log(2)) / 2
    term, after = compiled(method).apply(params, state, outputs)
    np.testing.assert_allclose(term.values, values.reshape(len(s), -1).mean(1), rtol=1e-4)
    batch = make_batch()
    assert np.array_equal(term.where, batch["present.audio"] & batch["valid"])
    assert float(term.weight) == 0.5 and jax.tree.structure(after) == jax.tree.structure(state)


def test_a_variance_never_reaches_zero():
    outputs = first_outputs()
    method = vid(**MAPS)
    params, state = compiled(method).init(outputs)
    term, _ = compiled(method).apply(params | {"scale": jnp.full(TEACHER, -1e4)}, state, outputs)
    assert np.isfinite(np.asarray(term.values)).all()


def test_maps_of_unlike_size_are_refused():
    method = vid(student="student.embedding", teacher=MAPS["teacher"])
    with pytest.raises(UserError, match="vid: teacher is float32"):
        compiled(method).apply(*compiled(method).init(first_outputs()), first_outputs())
