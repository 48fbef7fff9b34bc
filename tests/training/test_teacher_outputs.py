"""Teachers: several as one, and outputs that are computed once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.core.ensemble import ensemble
from mmkd_jax.core.model import StepContext, plain
from mmkd_jax.errors import UserError
from mmkd_jax.training.teacher_outputs import compute
from tests.small import applied, gap, make_batch, make_batches, net, on_device

KEY = jax.random.key(0)
STILL = StepContext(jnp.int32(0), KEY, train=False)


def test_an_ensemble_is_the_weighted_mean_of_what_is_shared():
    members = {"wide": net(8, "image", "audio"), "narrow": net(4)}
    batch = on_device(make_batch())
    for weights, share in [(None, (0.5, 0.5)), ({"wide": 3.0}, (0.75, 0.25))]:
        both = ensemble(members, weights)
        variables = both.init(KEY, batch)
        outputs, state = applied(both, variables, batch, STILL)
        assert set(outputs) == {"logits"} and state == {}  # embeddings differ in width
        each = {n: applied(m, variables[n], batch, STILL)[0]["logits"] for n, m in members.items()}
        assert gap(outputs["logits"], share[0] * each["wide"] + share[1] * each["narrow"]) < 1e-6
        assert gap(each["wide"], each["narrow"]) > 1e-2


def test_twins_start_differently():
    both = ensemble({"one": net(4), "two": net(4)})
    variables = both.init(KEY, on_device(make_batch()))
    assert gap(variables["one"], variables["two"]) > 1e-2


def test_a_patch_reaches_each_member():
    both, batch = ensemble({"one": net(4), "two": net(4)}), on_device(make_batch())
    variables = both.init(KEY, batch)
    outputs, _ = applied(both, variables, batch, STILL, {"embedding": jnp.zeros((16, 4))})
    biases = [variables[n]["params"]["Classifier_0"]["Dense_0"]["bias"] for n in ("one", "two")]
    assert gap(outputs["logits"], jnp.broadcast_to(sum(biases) / 2, (16, 3))) < 1e-6


def test_teachers_that_share_nothing_are_refused():
    apart = {"one": plain(lambda p, b: {"x": b["label"]}), "two": plain(lambda p, b: {"y": b["label"]})}
    both = ensemble(apart)
    with pytest.raises(UserError, match="one, two share no output"):
        both.apply(both.init(KEY, {}), make_batch(), STILL, {})


def test_outputs_are_computed_for_each_valid_row_once_and_in_order():
    model, batches = net(6, batch_norm=True, dropout=0.5), make_batches(3)
    variables = model.init(KEY, on_device(batches[0]))
    kept = compute(model, variables, iter(batches), ("logits", "features.image"), KEY)
    assert set(kept) == {"logits", "features.image"} and all(isinstance(x, np.ndarray) for x in kept.values())
    rows = []
    for batch in batches:
        outputs, _ = applied(model, variables, on_device(batch), STILL)
        rows.append(np.asarray(outputs["logits"])[batch["valid"]])
    np.testing.assert_allclose(kept["logits"], np.concatenate(rows), rtol=1e-5, atol=1e-6)
    assert len(kept["features.image"]) == 48 - 2 - 3 - 4


def test_an_output_that_is_not_there_is_refused():
    model = net(6)
    with pytest.raises(UserError, match="no output embeding; it has: embedding, features.image"):
        compute(model, model.init(KEY, on_device(make_batch())), make_batches(1), ("embeding",), KEY)
