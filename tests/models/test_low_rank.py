"""Low-rank adapters and frozen parameters: what is trained, what is not, and what a step changes."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax.core.model import FROZEN, StepContext, linen, nnx, plain, predict, with_input
from mmkd_jax.core.state import variables
from mmkd_jax.core.step import make_step
from mmkd_jax.core.tuning import joined
from mmkd_jax.errors import UserError
from mmkd_jax.models import (
    Bert,
    ImageMLP,
    ImageTransformer,
    Multimodal,
    TransformerConfig,
    branches,
    frozen_except,
    low_rank,
)
from tests.small import distil, initialize, make_batch, net, on_device, task

CONFIG = TransformerConfig(embed_dim=8, num_layers=1, num_heads=2, mlp_dim=12, dropout=0.5)
DRAW = np.random.default_rng(0)
TEXTS = {
    "text.ids": DRAW.integers(0, 9, (16, 5)).astype(np.int32),
    "text.mask": np.arange(5)[None] < DRAW.integers(1, 6, (16, 1)),
    "label": (np.arange(16) % 3).astype(np.int32),
    "example_id": np.arange(16, dtype=np.int32),
}
TEXT = linen(Multimodal({"text": Bert(9, CONFIG, length=6)}, 3, 4))
HEADS = ("Dense_0", "Classifier_0")


def paths(tree):
    return {jax.tree_util.keystr(p, simple=True, separator=".") for p, _ in jax.tree.leaves_with_path(tree)}


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def steps(model, count=3, batch=TEXTS, **more):
    """The state before and after some steps, and the frozen variables."""
    distillation = distil({"student": model}, task(), optimizer=optax.adam(1e-2), **more)
    state, frozen = initialize(distillation, batch)
    step, now = jax.jit(make_step(distillation)), state
    for _ in range(count):
        now, metrics = step(now, frozen, on_device(batch))
        assert np.isfinite(metrics["loss"])
    return state, now, frozen


def test_at_the_first_step_outputs_are_those_of_the_whole_model():
    model = low_rank(TEXT, rank=2)
    own = jax.jit(model.init)(jax.random.key(1), TEXTS)
    whole = jax.jit(TEXT.init)(jax.random.key(1), TEXTS)
    same(jax.jit(partial(joined, model))(own), whole)
    outputs = jax.jit(lambda v: predict(TEXT, v, TEXTS))(whole)
    same(jax.jit(lambda v: predict(model, v, TEXTS))(own), outputs)
    kernels = {f"params.encoders_text.transformer.layer_0.{n}.kernel" for n in ("query", "value")}
    adapted = {f"{k}.{factor}" for k in kernels for factor in "ab"}
    heads = {f"params.{n}Dense_0.{k}" for n in ("Classifier_0.", "") for k in ("bias", "kernel")}
    assert paths({"params": own["params"]}) == adapted | heads
    assert paths({"params": own[FROZEN]}) == paths(whole) - heads


def test_training_changes_adapters_and_head_and_nothing_else():
    model = low_rank(TEXT, rank=2)
    before, after, frozen = steps(model)
    assert FROZEN not in after.model_state["student"]
    trained = sum(x.size for x in jax.tree.leaves(after.params["student"]))
    sizes = [x.size for x in jax.tree.leaves(after.opt_state)]
    assert sum(sizes) == 2 * trained + 1  # both moments, and the count
    first, last = (joined(model, variables(s, frozen)["student"]) for s in (before, after))
    changed = {p for p in paths(first) if not np.array_equal(_at(first, p), _at(last, p))}
    kernels = {f"params.encoders_text.transformer.layer_0.{n}.kernel" for n in ("query", "value")}
    assert changed == kernels | {p for p in paths(first) if not p.startswith("params.encoders_")}
    for path in kernels:
        assert np.linalg.matrix_rank(_at(last, path) - _at(first, path), 1e-5) == 2


def _at(tree, path):
    for name in path.split("."):
        tree = tree[name]
    return np.asarray(tree)


def test_the_change_is_alpha_over_rank_times_both_factors():
    model = low_rank(TEXT, rank=2, alpha=3)
    own = jax.jit(model.init)(jax.random.key(1), TEXTS)
    own["params"] = jax.tree.map(lambda x: x + 0.5, own["params"])
    path = "encoders_text.transformer.layer_0.value.kernel".split(".")
    adapter, base, whole = own["params"], own[FROZEN], joined(model, own)["params"]
    for name in path:
        adapter, base, whole = adapter[name], base[name], whole[name]
    np.testing.assert_allclose(whole, base + 1.5 * np.asarray(adapter.a) @ np.asarray(adapter.b), 1e-5, 1e-6)


def test_microbatches_and_moving_averages_do_not_touch_what_is_frozen():
    model = low_rank(TEXT, rank=2)
    averaged = {"ema": {"mean": ("student", 0.5)}}
    distillation = distil({"student": model, "mean": model}, task(), **averaged)
    state, frozen = initialize(distillation, TEXTS)
    one, four = (jax.jit(make_step(distillation, n))(state, frozen, on_device(TEXTS))[0] for n in (1, 4))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-5), one.params, four.params)
    assert FROZEN not in one.ema["mean"] and set(frozen) == {"student", "mean"}
    jax.jit(lambda v: predict(model, v, TEXTS))(variables(one, frozen)["mean"])


def test_kernels_with_an_axis_for_heads_are_matrices():
    model = low_rank(linen(Multimodal({"image": ImageTransformer(1, 8, 2)}, 3)), 4,
                     targets="*.DenseGeneral_*")  # fmt: skip
    own = jax.eval_shape(model.init, jax.random.key(0), on_device(make_batch()))
    adapters = [x for x in jax.tree.leaves(own["params"], is_leaf=lambda x: hasattr(x, "a")) if hasattr(x, "a")]
    assert len(adapters) == 8 and all((x.a.shape, x.b.shape) == ((8, 4), (4, 8)) for x in adapters)


def nnx_net():
    from flax import nnx as flax_nnx

    class Net(flax_nnx.Module):
        def __init__(self, rngs):
            self.trunk, self.head = flax_nnx.Linear(6, 5, rngs=rngs), flax_nnx.Linear(5, 3, rngs=rngs)

        def __call__(self, batch, ctx, patch):
            return {"logits": self.head(jnp.tanh(self.trunk(batch["image"].reshape(-1, 6))))}

    return nnx(Net)


def function(params, batch):
    return {"logits": jnp.tanh(batch["image"].reshape(-1, 6) @ params["trunk"]["kernel"]) @ params["head"]["kernel"]}


def function_init(key, batch):
    return {"trunk": {"kernel": jax.random.normal(key, (6, 5))}, "head": {"kernel": jnp.zeros((5, 3))}}


KINDS = {"nnx": nnx_net(), "plain": plain(function, function_init), "input": with_input(net(8), lambda b, ctx: dict(b))}


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_all_kinds_are_frozen_except_for_their_head(kind):
    head = "Classifier_0" if kind == "input" else "head"
    model = frozen_except(KINDS[kind], head)
    before, after, frozen = steps(model, batch=make_batch())
    first, last = (joined(model, variables(s, frozen)["student"])["params"] for s in (before, after))
    for name in first:
        equal = all(map(np.array_equal, jax.tree.leaves(first[name]), jax.tree.leaves(last[name])))
        assert equal == (name != head)


def test_frozen_modules_run_as_frozen_models_do():
    """Features of an encoder with dropout, and a BatchNorm, are those of the evaluation; the head's dropout is on."""
    calm = frozen_except(TEXT, HEADS)
    own = jax.jit(calm.init)(jax.random.key(1), TEXTS)

    def features(model, variables, train):
        ctx = StepContext(jnp.int32(0), jax.random.key(0), train=train)
        return jax.jit(lambda v: model.apply(v, TEXTS, ctx, {}))(variables)[0]["features.text"]

    same(features(calm, own, True), features(calm, own, False))
    whole = joined(calm, own)
    assert not np.array_equal(features(TEXT, whole, True), features(TEXT, whole, False))
    for remat in (False, True):
        module = Multimodal({"text": Bert(9, dataclasses.replace(CONFIG, remat=remat), length=6)}, 3, 4)
        adapted = low_rank(linen(module), 2)
        mine = jax.jit(adapted.init)(jax.random.key(1), TEXTS)
        np.testing.assert_array_equal(features(adapted, mine, True), features(linen(module), whole, True))


def test_running_statistics_of_frozen_modules_do_not_move():
    for trained, moves in (("Classifier_0", False), (("BatchNorm_0", "Classifier_0"), True)):
        before, after, _ = steps(frozen_except(net(8, batch_norm=True), trained), batch=make_batch())
        states = [jax.tree.leaves(s.model_state["student"]) for s in (before, after)]
        assert all(map(np.array_equal, *states)) != moves


REFUSED = {
    "no such kernel": (lambda: low_rank(TEXT, targets="*.queri"), "targets: '.*queri' matches nothing; there are: "),
    "a bias": (lambda: low_rank(TEXT, targets="*.query.bias"), "'.*query.bias' matches nothing"),
    "no such parameter": (lambda: frozen_except(TEXT, ("Classifier_0", "hed")), "'hed' matches nothing.*Classifier_0"),
    "a large rank": (lambda: low_rank(TEXT, rank=9), "rank is 9, but .*query.kernel is a matrix of 8 × 8.*most 8"),
    "no encoders": (lambda: low_rank(KINDS["plain"], targets="*"), "has no encoders_….*trained=\\(…\\)"),
    "no rank": (lambda: low_rank(TEXT, rank=0), "rank is 0; expected a whole number, 1 or more"),
    "no alpha": (lambda: low_rank(TEXT, alpha=-1), "alpha is -1"),
    "twice": (lambda: low_rank(frozen_except(TEXT, HEADS)), "is partly trained already"),
    "a branch": (lambda: branches({"a": low_rank(TEXT)}), "branches: a is partly trained: combine whole models"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused_from_shapes(case):
    make, said = REFUSED[case]
    with pytest.raises(UserError, match=said) as refused:
        jax.eval_shape(make().init, jax.random.key(0), on_device(TEXTS))
    assert len(str(refused.value)) < 500 and "\n" not in str(refused.value)


def test_a_patch_and_an_encoder_without_adapters():
    model = low_rank(linen(Multimodal({"text": Bert(9, CONFIG, length=6), "image": ImageMLP((4,))}, 3, 4)), 2)
    batch = on_device(TEXTS | {"image": make_batch()["image"]})
    own = jax.jit(model.init)(jax.random.key(1), batch)
    assert not any("image" in p for p in paths(own["params"]))
    patch = {"features.text": jnp.ones((16, 8))}
    out = jax.jit(lambda v: predict(model, v, batch, patch))(own)
    np.testing.assert_array_equal(out["features.text"], 1)
