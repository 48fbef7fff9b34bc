"""Knowledge review: what the chain of fusions gives, and that it teaches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses
from mmkd_jax.connectors import ABF
from mmkd_jax.errors import UserError
from mmkd_jax.hyperparameters import numbers
from mmkd_jax.methods import reviewkd
from tests.methods.stages import MODELS, check_mechanism, check_padding, pictures, views_of
from tests.small import begin, distil

pytestmark = pytest.mark.usefixtures("strict")
STAGES = {
    "student": ("student.hidden.image.0", "student.hidden.image.1", "student.embedding"),
    "teacher": ("teacher.hidden.image.0", "teacher.hidden.image.1", "teacher.embedding"),
}


METHOD = reviewkd(**STAGES, width=4)


def test_it_teaches():
    check_mechanism(METHOD, ("encoders_image", "Dense_0"))


def test_padding():
    check_padding(METHOD)


def test_the_deepest_stage_is_fused_first():
    objective = reviewkd(**STAGES, width=4, weight=0.5)
    state, frozen = begin(distil(MODELS, objective), pictures())
    views = views_of(state, frozen, pictures(), train=False)
    assert numbers(state.memory) == {"weight": 0.5}
    term, _ = jax.jit(lambda: objective.apply(state.params["objective"], state.memory, views))()
    params, stats = state.params["objective"]["student"], state.memory["state"]["student"]["batch_stats"]
    residual, made = None, []
    for i, (s, t) in enumerate(reversed(list(zip(*STAGES.values(), strict=True)))):
        x, target = (views[p].reshape(16, *[1] * (4 - views[p].ndim), *views[p].shape[1:]) for p in (s, t))
        fusion = ABF(4, target.shape[-1], target.shape[1:3])
        own = {"params": params[f"ABF_{i}"], "batch_stats": stats[f"ABF_{i}"]}
        out, residual = fusion.apply(own, x, residual, views.ctx)
        made.append((out, target))
    np.testing.assert_allclose(term.values, sum(losses.hcl((s,), (t,)) for s, t in made), rtol=1e-4)
    assert "attention" not in params["ABF_0"] and "attention" in params["ABF_2"]


def test_the_deepest_stage_reaches_the_shallowest_target():
    """A gradient flows from the first stage's term back into the student's last layer: the review."""
    state, frozen = begin(distil(MODELS, METHOD), pictures())
    views = views_of(state, frozen, pictures())

    def shallow(x):
        seen = views.add(student={**views.outputs["student"], "embedding": x})
        return jnp.sum(METHOD.apply(state.params["objective"], state.memory, seen)[0].values)

    def own(x):
        only = reviewkd(STAGES["student"][-1:], STAGES["teacher"][-1:], width=4)
        part = {"student": {"ABF_0": state.params["objective"]["student"]["ABF_0"]}}
        state_of = {"student": {"batch_stats": {"ABF_0": state.memory["state"]["student"]["batch_stats"]["ABF_0"]}}}
        seen = views.add(student={**views.outputs["student"], "embedding": x})
        return jnp.sum(only.apply(part, state.memory | {"state": state_of}, seen)[0].values)

    x = views["student.embedding"]
    whole, alone = (jax.jit(jax.grad(f))(x) for f in (shallow, own))
    assert float(jnp.abs(whole - alone).max()) > 1e-3


def test_unequal_numbers_of_stages_are_refused():
    with pytest.raises(UserError, match="3 stages of the student, 1 of the teacher"):
        reviewkd(STAGES["student"], STAGES["teacher"][:1])
