"""Knowledge review: what the chain of fusions gives, and that it teaches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses
from mmkd_jax.core.hyperparams import hyperparams_of
from mmkd_jax.errors import UserError
from mmkd_jax.methods import reviewkd
from mmkd_jax.nn.connectors import ABF
from tests.methods.stages import MODELS, check_mechanism, check_padding, pictures, views_of
from tests.small import compiled, distil, initialize

pytestmark = pytest.mark.usefixtures("strict")
STAGES = {
    "student": ("student.hidden.image.0", "student.hidden.image.1", "student.embedding"),
    "teacher": ("teacher.hidden.image.0", "teacher.hidden.image.1", "teacher.embedding"),
}


METHOD = reviewkd(**STAGES, width=4)


@pytest.mark.slow
def test_it_teaches():
    check_mechanism(METHOD, ("encoders_image", "Dense_0"))


@pytest.mark.slow
def test_padding():
    check_padding(METHOD)


@pytest.mark.slow
def test_the_deepest_stage_is_fused_first():
    objective = reviewkd(**STAGES, width=4, weight=0.5)
    state, frozen = initialize(distil(MODELS, objective), pictures())
    outputs = views_of(state, frozen, pictures(), train=False)
    assert hyperparams_of(state.objective_state) == {"weight": 0.5}
    term, _ = jax.jit(lambda: compiled(objective).apply(state.params["objective"], state.objective_state, outputs))()
    params, stats = state.params["objective"]["student"], state.objective_state["state"]["student"]["batch_stats"]
    residual, made = None, []
    for i, (s, t) in enumerate(reversed(list(zip(*STAGES.values(), strict=True)))):
        x, target = (outputs[p].reshape(16, *[1] * (4 - outputs[p].ndim), *outputs[p].shape[1:]) for p in (s, t))
        fusion = ABF(4, target.shape[-1], target.shape[1:3])
        own = {"params": params[f"ABF_{i}"], "batch_stats": stats[f"ABF_{i}"]}
        out, residual = fusion.apply(own, x, residual, outputs.ctx)
        made.append((out, target))
    np.testing.assert_allclose(term.values, sum(losses.hcl((s,), (t,)) for s, t in made), rtol=1e-4)
    assert "attention" not in params["ABF_0"] and "attention" in params["ABF_2"]


@pytest.mark.slow
def test_the_deepest_stage_reaches_the_shallowest_target():
    """A gradient flows from the first stage's term back into the student's last layer: the review."""
    state, frozen = initialize(distil(MODELS, METHOD), pictures())
    outputs = views_of(state, frozen, pictures())

    def shallow(x):
        seen = outputs.add(student={**outputs.by_model["student"], "embedding": x})
        return jnp.sum(compiled(METHOD).apply(state.params["objective"], state.objective_state, seen)[0].values)

    def own(x):
        only = reviewkd(STAGES["student"][-1:], STAGES["teacher"][-1:], width=4)
        part = {"student": {"ABF_0": state.params["objective"]["student"]["ABF_0"]}}
        state_of = {
            "student": {"batch_stats": {"ABF_0": state.objective_state["state"]["student"]["batch_stats"]["ABF_0"]}}
        }
        seen = outputs.add(student={**outputs.by_model["student"], "embedding": x})
        return jnp.sum(only.apply(part, state.objective_state | {"state": state_of}, seen)[0].values)

    x = outputs["student.embedding"]
    whole, alone = (jax.jit(jax.grad(f))(x) for f in (shallow, own))
    assert float(jnp.abs(whole - alone).max()) > 1e-3


def test_unequal_numbers_of_stages_are_refused():
    with pytest.raises(UserError, match="3 student and 1 teacher stages"):
        reviewkd(STAGES["student"], STAGES["teacher"][:1])
