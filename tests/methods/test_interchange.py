"""Interchange: whose activations, which rows count, where the gradient flows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses
from mmkd_jax.core.hyperparams import hyperparams_of
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import total
from mmkd_jax.core.outputs import forward
from mmkd_jax.errors import UserError
from mmkd_jax.methods import interchange
from tests.small import compiled, gap, look, make_batch, net, on_device

pytestmark = pytest.mark.usefixtures("strict")
MODELS = {"teacher": net(6, "image", "audio"), "student": net(8, "image", "audio", dropout=0.5)}
BATCH = on_device(make_batch())
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def outputs():
    variables = {n: jax.jit(m.init)(KEY, BATCH) for n, m in MODELS.items()}
    return look(MODELS, variables, BATCH, StepContext(jnp.int32(0), KEY))


def test_the_partner_is_the_row_before(outputs):
    part = interchange("features.image", temperature=2.0)
    params, state = compiled(part).init(outputs)
    assert params == {} and hyperparams_of(state) == {"temperature": 2.0, "weight": 1.0}
    made, after = part.apply(params, state, outputs)
    answers = {}
    for name in MODELS:
        clean = outputs.run[name](BATCH)["features.image"]
        answers[name] = outputs.run[name](BATCH, patch={"features.image": jnp.roll(clean, 1, 0)})["logits"]
    expected = losses.kl(answers["student"], answers["teacher"], temperature=2.0)
    np.testing.assert_allclose(made.values, expected, rtol=1e-5, atol=1e-7)
    assert after.keys() == state.keys()


def test_a_row_counts_if_it_and_its_partner_do(outputs):
    made, _ = interchange("features.image", where="present.audio").apply(*start(outputs), outputs)
    valid, heard = np.asarray(BATCH["valid"]), np.asarray(BATCH["present.audio"])
    both = valid & heard
    assert np.array_equal(made.where, both & np.roll(both, 1)) and 0 < made.where.sum() < both.sum()


def start(outputs):
    return interchange("features.image").init(outputs)


def test_on_the_only_way_to_the_output_it_is_kl_on_the_partner():
    variables = {n: jax.jit(m.init)(KEY, BATCH) for n, m in MODELS.items()}
    outputs = forward(MODELS, variables, BATCH, StepContext(jnp.int32(0), KEY, train=False))[0]  # no dropout
    made, _ = interchange("embedding").apply(*start(outputs), outputs)
    calm = {n: outputs.run[n](BATCH)["logits"] for n in MODELS}
    np.testing.assert_allclose(
        made.values, np.roll(losses.kl(calm["student"], calm["teacher"]), 1), rtol=1e-4, atol=1e-6
    )


@pytest.mark.slow
def test_names_may_differ_between_the_models(outputs):
    made, _ = interchange({"student": "features.image", "teacher": "features.audio"}).apply(*start(outputs), outputs)
    same, _ = interchange("features.image").apply(*start(outputs), outputs)
    assert gap(made.values, same.values) > 1e-3
    with pytest.raises(UserError, match="no output .features.text.; it has: .*features.image"):
        interchange("features.text").init(outputs)


def test_the_gradient_flows_through_what_the_student_swaps_in_and_never_to_the_teacher():
    variables = {n: jax.jit(m.init)(KEY, BATCH) for n, m in MODELS.items()}
    part = interchange("features.image")

    @jax.jit
    @jax.grad
    def gradient(params):
        held = {n: {"params": p} for n, p in params.items()}
        here, _ = forward(MODELS, held, BATCH, StepContext(jnp.int32(0), KEY))
        return total(compiled(part).apply(*compiled(part).init(here), here)[0])[0]

    found = gradient({n: v["params"] for n, v in variables.items()})
    largest: dict[str, float] = {
        n: max(float(jnp.abs(g).max()) for g in jax.tree.leaves(x)) for n, x in found["student"].items()
    }
    assert largest["encoders_image"] > 1e-4 and largest["encoders_audio"] > 1e-4
    assert not any(np.any(g) for g in jax.tree.leaves(found["teacher"]))


def test_a_wrong_output_is_named(outputs):
    with pytest.raises(UserError, match="'swapped_student' has no 'logit'; it has: embedding"):
        interchange("features.image", output="logit").apply(*start(outputs), outputs)


@pytest.mark.slow
def test_two_sources_each_give_one_intermediate(outputs):
    both = interchange(("features.image", "features.audio"))
    made, _ = compiled(both).apply(*compiled(both).init(outputs), outputs)
    answers = {}
    for name in MODELS:
        clean = outputs.run[name](BATCH)
        patch = {f"features.{m}": jnp.roll(clean[f"features.{m}"], i, 0) for i, m in ((1, "image"), (2, "audio"))}
        answers[name] = outputs.run[name](BATCH, patch=patch)["logits"]
    np.testing.assert_allclose(made.values, losses.kl(answers["student"], answers["teacher"]), rtol=1e-5, atol=1e-7)
    valid = np.asarray(BATCH["valid"])
    assert np.array_equal(made.where, valid & np.roll(valid, 1) & np.roll(valid, 2))
    one = interchange("features.image")
    assert gap(made.values, compiled(one).apply(*compiled(one).init(outputs), outputs)[0].values) > 1e-3
    with pytest.raises(UserError, match="16 sources need more than 16 rows"):
        interchange(("features.image",) * 16).init(outputs)
