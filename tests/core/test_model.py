"""Models behind one signature, and the outputs of a batch."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.core.model import StepContext, Taps, cached, linen, plain, predict, with_input
from mmkd_jax.core.outputs import forward
from mmkd_jax.errors import UserError
from tests.small import applied, equal, gap, make_batch, net, on_device

KEY = jax.random.key(0)
CTX = StepContext(jnp.int32(0), KEY)
STILL = CTX._replace(train=False)


def held(model, batch):
    return model.init(KEY, batch)


def test_patching_an_output_with_itself_changes_nothing():
    model, batch = net(8, "image", "audio", batch_norm=True, dropout=0.5), on_device(make_batch())
    variables = held(model, batch)
    for ctx in (CTX, STILL):
        outputs, state = model.apply(variables, batch, ctx, {})
        for name, value in outputs.items():
            patched, same = model.apply(variables, batch, ctx, {name: value})
            assert equal((patched, same), (outputs, state)), name


def test_a_patch_is_taken_and_reaches_what_follows():
    model, batch = net(8), on_device(make_batch())
    variables = held(model, batch)
    outputs, _ = applied(model, variables, batch, STILL)
    patched, _ = applied(model, variables, batch, STILL, {"embedding": jnp.zeros((16, 8))})
    assert equal(patched["features.image"], outputs["features.image"]) and not patched["embedding"].any()
    bias = variables["params"]["Classifier_0"]["Dense_0"]["bias"]
    assert gap(patched["logits"], jnp.broadcast_to(bias, (16, 3))) < 1e-6


def test_a_patch_that_fits_nothing_is_refused():
    model, batch = net(8), on_device(make_batch())
    variables = held(model, batch)
    with pytest.raises(UserError, match="patch features.audio: the model has no such output; it has: embedding, feat"):
        model.apply(variables, batch, STILL, {"features.audio": jnp.zeros(3)})
    with pytest.raises(UserError, match=r"patch 'embedding' has shape \(16, 7\), the model's output has \(16, 8\)"):
        model.apply(variables, batch, STILL, {"embedding": jnp.zeros((16, 7))})


def test_an_intermediate_has_one_name():
    tap = Taps({})
    tap("features", 1)
    with pytest.raises(ValueError, match="two intermediates of one model are named 'features'"):
        tap("features", 2)


def test_only_trained_models_train():
    models = {n: net(8, batch_norm=True, dropout=0.5) for n in ("student", "teacher")}
    batch = on_device(make_batch())
    variables = {"student": held(models["student"], batch), "teacher": held(models["teacher"], batch)}
    outputs, states = forward(models, variables, batch, CTX)
    assert set(states) == {"student"} and gap(states["student"], {"batch_stats": variables["student"]["batch_stats"]})
    still, none = forward(models, variables, batch, STILL)
    assert equal(outputs.by_model["teacher"], still.by_model["teacher"]) and none == {"student": {}}
    assert gap(outputs["student.logits"], still["student.logits"]) > 1e-3
    # twins in all but name draw differently
    both, _ = forward(models, variables, batch, CTX, ("student", "teacher"))
    assert equal(both["student.embedding"], both["teacher.embedding"])
    assert gap(both["student.logits"], both["teacher.logits"]) > 1e-3


def test_a_further_pass_draws_what_the_first_drew():
    models, batch = {"student": net(8, dropout=0.5)}, on_device(make_batch())
    outputs, _ = forward(models, {"student": held(models["student"], batch)}, batch, CTX)
    assert equal(outputs.run["student"](batch), outputs.by_model["student"])
    calm = outputs.run["student"](batch, train=False)
    assert gap(calm["logits"], outputs["student.logits"]) > 1e-3
    zeros = outputs.run["student"](batch, patch={"embedding": jnp.zeros((16, 8))})
    assert gap(zeros["logits"], outputs["student.logits"]) > 1e-3


def test_dropout_belongs_to_the_example():
    model, batch = net(8, dropout=0.5), on_device(make_batch())
    variables, order = held(model, batch), np.arange(16)[::-1][:8]
    outputs, _ = applied(model, variables, batch, CTX)
    some, _ = applied(model, variables, {k: x[order] for k, x in batch.items()}, CTX)
    np.testing.assert_allclose(some["logits"], outputs["logits"][order], rtol=1e-5, atol=1e-6)


def test_a_path_that_does_not_exist_lists_those_that_do():
    models, batch = {"student": net(8)}, on_device(make_batch())
    outputs, _ = forward(models, {"student": held(models["student"], batch)}, batch, CTX)
    with pytest.raises(UserError, match="no outputs 'teacher'; there are: batch, student"):
        outputs["teacher.logits"]
    with pytest.raises(UserError, match="'student' has no 'features.audio'; it has: embedding, features.image"):
        outputs["student.features.audio"]
    assert outputs["batch.present.audio"] is batch["present.audio"]
    more = outputs.add(attacked={"logits": 1})
    assert more["attacked.logits"] == 1 and "attacked" not in outputs.by_model


def test_who_looks_is_recorded():
    seen = []
    models, batch = {"student": net(8)}, on_device(make_batch())
    outputs, _ = forward(models, {"student": held(models["student"], batch)}, batch, CTX)
    listening = dataclasses.replace(outputs, record=lambda scope, path: seen.append((scope, path)))
    _ = listening.at("soft").at("inner")["student.logits"], listening["batch.label"]
    assert seen == [("soft.inner", "student.logits"), ("", "batch.label")]


def test_a_cached_model_reads_the_batch_and_nothing_else():
    model = cached("teacher")
    batch = {"teacher.logits": jnp.ones((2, 3)), "teacher.features.image": jnp.zeros(2), "teachers": 1, "label": 2}
    model_outputs, state = model.apply({}, batch, CTX, {})
    assert set(model_outputs) == {"logits", "features.image"} and state == {} and model.init(KEY, batch) == {}
    with pytest.raises(UserError, match=r"'teacher' is cached, but the batch has no teacher\.\*; it has: label"):
        model.apply({}, {"label": 2}, CTX, {})
    with pytest.raises(UserError, match="it cannot take patch logits; use the model itself"):
        model.apply({}, batch, CTX, {"logits": 0})
    outputs, _ = forward({"teacher": model}, {"teacher": {}}, batch, CTX, ())
    with pytest.raises(UserError, match=r"cached and cannot be run on another input.*\(in a Training: omit cache=\)"):
        outputs.run["teacher"](batch)
    with pytest.raises(UserError, match="'teacher' is cached and cannot be run"):  # seen through another input, too
        outputs, _ = forward({"teacher": with_input(model, lambda b, ctx: b)}, {"teacher": {}}, batch, CTX, ())
        outputs.run["teacher"](batch)


def test_a_model_may_see_its_own_version_of_the_batch():
    model = plain(lambda params, batch, ctx: {"x": batch["x"], "train": ctx.train})
    half = with_input(model, lambda batch, ctx: {**batch, "x": batch["x"] / 2 + (10 if ctx.train else 0)})
    batch = {"x": jnp.ones(2)}
    assert half.apply(held(half, batch), batch, STILL, {})[0]["x"].tolist() == [0.5, 0.5]
    assert half.apply(held(half, batch), batch, CTX, {})[0]["x"].tolist() == [10.5, 10.5]


def test_a_linen_module_without_statistics_gives_none():
    class Line(nn.Module):
        @nn.compact
        def __call__(self, batch, ctx, patch):
            return {"logits": Taps(patch)("logits", nn.Dense(2)(batch["x"]))}

    model, batch = linen(Line()), {"x": jnp.ones((3, 4))}
    outputs, state = model.apply(held(model, batch), batch, CTX, {})
    assert outputs["logits"].shape == (3, 2) and state == {}


def test_names_give_keys_of_their_own():
    keys = [CTX.key, CTX.at("a").key, CTX.at("b").key, CTX.at("a").at("b").key, CTX.at("b").at("a").key]
    assert len({tuple(jax.random.key_data(k).tolist()) for k in keys}) == 5
    assert equal(jax.random.key_data(CTX.at("a").key), jax.random.key_data(CTX.at("a").key))


def test_predict_names_the_missing_example_id():
    batch = {k: x for k, x in on_device(make_batch()).items() if k != "example_id"}
    model = net(6, "image", "audio")
    variables = jax.jit(model.init)(jax.random.key(0), on_device(make_batch()))
    with pytest.raises(UserError, match=r"the batch has no example_id: .*np.arange\(n\)"):
        predict(model, variables, batch)
