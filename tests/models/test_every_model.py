"""What holds for every model: intermediates can be patched, masks are respected, nothing is promoted silently."""

from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.core.model import StepContext, linen
from mmkd_jax.errors import UserError
from mmkd_jax.models import (
    Ast,
    AudioCNN,
    AudioTDNN,
    Bert,
    ConvNext,
    Deberta,
    ImageCNN,
    ImageMLP,
    ImageTransformer,
    ModernBert,
    MPNet,
    Multimodal,
    PerFrame,
    ResNet,
    Swin,
    TextBag,
    TextLSTM,
    TextTransformer,
    Timesformer,
    TransformerConfig,
    Vit,
    VoiceLSTM,
    Wav2Vec2,
    WavLM,
    Whisper,
)
from mmkd_jax.models.fusion import (
    GMU,
    Attention,
    Bottleneck,
    Concat,
    CrossModal,
    FiLM,
    Gated,
    Late,
    LowRank,
    Mixer,
    MoE,
    Multiplicative,
    Orthogonal,
    Perceiver,
    Sum,
    TensorFusion,
)
from tests.small import applied

ROWS, LENGTH = 6, 5
CONFIG = TransformerConfig(embed_dim=4, num_layers=1, num_heads=2, mlp_dim=6)
ROUGH = replace(CONFIG, eps=1e-5)
MODERN = replace(ROUGH, bias=False, gated_mlp=True)


def encoder(kind):
    return {
        "image mlp": {"image": ImageMLP((6, 4))},
        "image cnn": {"image": ImageCNN((3, 4))},
        "image transformer": {"image": ImageTransformer(3, 4, num_heads=2, num_layers=1)},
        "audio tdnn": {"audio": AudioTDNN((4, 3))},
        "audio cnn": {"audio": AudioCNN((3, 4))},
        "text lstm": {"text": TextLSTM(9, 4)},
        "text bag": {"text": TextBag(9, 4)},
        "bert": {"text": Bert(9, CONFIG, length=LENGTH, types=0)},
        "mpnet": {"text": MPNet(9, CONFIG, length=LENGTH + 2)},
        "deberta": {"text": Deberta(9, replace(CONFIG, eps=1e-7), length=LENGTH, buckets=2, reach=4, kernel=3)},
        "modernbert": {"text": ModernBert(9, replace(MODERN, num_layers=2, embed_dim=8), LENGTH, every=2, window=2)},
        "resnet": {"image": ResNet(1, 2, (4,), (1,), mean=(0.5,), std=(0.5,))},
        "convnext": {"image": ConvNext(1, 2, (3,), (1,), mean=(0.5,), std=(0.5,))},
        "convnext v2": {
            "image": ConvNext(1, 2, (3,), (1,), layer_scale=False, response_norm=True, mean=(0.5,), std=(0.5,))
        },
        "wav2vec2": {"wave": Wav2Vec2((3,), (3,), (2,), reach=2, groups=2, config=ROUGH)},
        "wavlm": {"wave": WavLM((3,), (3,), (2,), reach=2, groups=2, config=ROUGH, buckets=4, bucket_reach=3)},
        "vit": {"image": Vit((6, 6), (3, 2), channels=1, config=CONFIG, mean=(0.5,), std=(0.5,))},
        "swin": {"image": Swin((6, 6), (2, 2), 1, 4, (2, 1), (2, 1), 2, 2.0, mean=(0.5,), std=(0.5,))},
        "whisper": {"audio": Whisper(5, 4, ROUGH)},
        "ast": {"audio": Ast((5, 8), (3, 2), (1, 3), config=CONFIG)},
        "voice lstm": {"audio": VoiceLSTM(5, 4, layers=2, embedding=8, window=4)},
        "text transformer": {"text": TextTransformer(9, 4, num_heads=2, num_layers=1, length=LENGTH)},
        "vivit": {"video": Vit((2, 6, 6), (2, 3, 2), channels=1, config=CONFIG, mean=(0.5,), std=(0.5,))},
        "timesformer": {"video": Timesformer((6, 6), (3, 3), 2, 1, replace(CONFIG, eps=1e-6), mean=(0.5,), std=(0.5,))},
        "frames": {"video": PerFrame(ImageCNN((3, 4)), pool="attention")},
    }[kind]


def all_three():
    return {"image": ImageMLP((4,)), "audio": AudioTDNN((4, 3)), "text": TextLSTM(9, 4)}


def two():
    return {"image": ImageMLP((4,)), "text": TextBag(9, 4)}


def with_tokens():
    return {"image": ImageCNN((3,), 3), "text": TextBag(9, 4)}


MODELS = {k: Multimodal(encoder(k), 3, 4) for k in ("image mlp", "image cnn", "audio tdnn", "audio cnn", "text lstm")}
MODELS |= {
    "text bag": Multimodal(encoder("text bag"), 3, 4),
    "text transformer": Multimodal(encoder("text transformer"), 3, 4),
    "image transformer": Multimodal(encoder("image transformer"), 3, 4),
    "bert": Multimodal(encoder("bert"), 3, 4),
    "mpnet": Multimodal(encoder("mpnet"), 3, 4),
    "deberta": Multimodal(encoder("deberta"), 3, 4),
    "modernbert": Multimodal(encoder("modernbert"), 3, 4),
    "wavlm": Multimodal(encoder("wavlm"), 3, 4),
    "vit": Multimodal(encoder("vit"), 3, 4),
    "resnet": Multimodal(encoder("resnet"), 3, 4),
    "convnext": Multimodal(encoder("convnext"), 3, 4),
    "convnext v2": Multimodal(encoder("convnext v2"), 3, 4),
    "wav2vec2": Multimodal(encoder("wav2vec2"), 3, 4),
    "swin": Multimodal(encoder("swin"), 3, 4),
    "whisper": Multimodal(encoder("whisper"), 3, 4),
    "ast": Multimodal(encoder("ast"), 3, 4),
    "vivit": Multimodal(encoder("vivit"), 3, 4),
    "timesformer": Multimodal(encoder("timesformer"), 3, 4),
    "frames": Multimodal(encoder("frames"), 3, 4),
    "voice lstm": Multimodal(encoder("voice lstm"), 3, 4),
    "concat": Multimodal(all_three(), 3, 4, Concat(), dropout=0.5),
    "gated": Multimodal(all_three(), 3, 4, Gated(4), batch_norm=True),
    "sum": Multimodal(two(), 3, 4, Sum(4)),
    "gmu": Multimodal(two(), 3, 4, GMU(4)),
    "tensor fusion": Multimodal(two(), 3, 4, TensorFusion(3)),
    "low rank": Multimodal(two(), 3, 4, LowRank(4, rank=2)),
    "attention": Multimodal(two(), 3, 4, Attention(4, heads=2)),
    "late": Multimodal(two(), fusion=Late(3, "learned")),
    "film": Multimodal(two(), 3, 4, FiLM("text", "image", 4)),
    "moe": Multimodal(two(), 3, 4, MoE(3, 4)),
    "multiplicative": Multimodal(two(), 3, 4, Multiplicative(4)),
    "mixer": Multimodal(two(), 3, 4, Mixer(4)),
    "orthogonal": Multimodal(two(), 3, 4, Orthogonal(4)),
    "bottleneck": Multimodal(with_tokens(), 3, 4, Bottleneck(2, 2, 4, 2)),
    "cross modal": Multimodal(with_tokens(), 3, 4, CrossModal(1, 1, 4, 2)),
    "perceiver": Multimodal(with_tokens(), 3, 4, Perceiver(2, 2, 4, 2)),
}
TOKENS_ALONE = ("cross modal", "perceiver")
"""Fusions that read the tokens of encoders, not their features."""
FILLED = ("whisper", "ast")
"""What fills up a recording is part of what these see."""
FUSIONS = (
    "sum",
    "gmu",
    "tensor fusion",
    "low rank",
    "film",
    "moe",
    "multiplicative",
    "mixer",
    "orthogonal",
    "cross modal",
    "perceiver",
)
"""Their own contract is in tests/models/fusion."""
# 49 shifted products, and as many gradients, take a minute to compile
NAMES = [pytest.param(n, marks=pytest.mark.slow) if n in FUSIONS or n.startswith("convnext") else n for n in MODELS]


def batch():
    draw = np.random.default_rng(0)
    lengths = np.array([5, 3, 1, 4, 2, 5])
    made = {
        "image": draw.integers(0, 256, (ROWS, 6, 6, 1), dtype=np.uint8),
        "audio": draw.random((ROWS, 8, 5), dtype=np.float32),
        "audio.mask": np.arange(8)[None] < np.array([8, 8, 5, 3, 8, 1])[:, None],
        "wave": draw.normal(size=(ROWS, 9)).astype(np.float32),
        "wave.mask": np.arange(9)[None] < np.array([9, 8, 5, 3, 9, 6])[:, None],
        "text.ids": draw.integers(1, 9, (ROWS, LENGTH)).astype(np.int32),
        "text.mask": np.arange(LENGTH)[None] < lengths[:, None],
        "example_id": np.arange(ROWS, dtype=np.int32) + 10,
        "present.image": np.array([1, 1, 0, 1, 1, 1], bool),
        "present.audio": np.array([1, 0, 1, 1, 1, 1], bool),
        "present.wave": np.array([1, 1, 1, 1, 0, 1], bool),
        "present.text": np.array([1, 1, 1, 0, 1, 0], bool),
        "video": draw.integers(0, 256, (ROWS, 2, 6, 6, 1), dtype=np.uint8),
        "video.mask": np.array([[1, 1], [1, 0], [1, 1], [0, 0], [1, 1], [0, 1]], bool),
        "present.video": np.array([1, 1, 0, 1, 1, 1], bool),
    }
    return {k: jnp.asarray(v) for k, v in made.items()}


def ready(name):
    model = linen(MODELS[name])
    return model, jax.jit(model.init)(jax.random.key(0), batch())


def run(model, variables, given, train=False, patch=None, step=0):
    ctx = StepContext(jnp.int32(step), jax.random.key(step + 1), train)
    return applied(model, variables, given, ctx, patch or {})[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_intermediate_is_patched_with_itself_and_with_something_else(name):
    model, variables = ready(name)
    given = batch()
    names = list(jax.eval_shape(lambda: run(model, variables, given)))
    assert ({"logits"} if name == "late" else {"logits", "embedding"}) <= {*names}
    assert any(n.startswith("features.") for n in names)

    def changed(x):  # a shift would be lost in a LayerNorm
        return ~x if x.dtype == bool else x + jax.random.uniform(jax.random.key(5), x.shape)

    @jax.jit
    def all_at_once():
        plain = run(model, variables, given)
        same = {n: run(model, variables, given, patch={n: plain[n]}) for n in names}
        other = {n: run(model, variables, given, patch={n: changed(plain[n])})["logits"] for n in names}
        return plain, same, other

    plain, same, other = all_at_once()
    for patched in names:
        for n in names:
            np.testing.assert_array_equal(same[patched][n], plain[n], err_msg=f"{n} with {patched} patched by itself")
        if name in TOKENS_ALONE and patched.startswith("features."):
            continue
        assert np.abs(other[patched] - plain["logits"]).max() > 1e-6, f"{patched} reaches no logits"


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_absent_modalities_and_padding_change_nothing(name):
    model, variables = ready(name)
    given = batch()

    def spoilt(value):
        out = dict(given)
        for m in ("image", "audio", "video"):
            x = given[m].astype(jnp.float32) / (1 if m == "audio" else 255)
            gone = ~given[f"present.{m}"]
            out[m] = jnp.where(gone.reshape(-1, *[1] * (x.ndim - 1)), value, x)
        out["wave"] = jnp.where(given["wave.mask"] & given["present.wave"][:, None], given["wave"], value)
        if name not in FILLED:
            out["audio"] = jnp.where(given["audio.mask"][..., None], out["audio"], value)
        if name == "frames":  # the others have no mask
            out["video"] = jnp.where(given["video.mask"][..., None, None, None], out["video"], value)
        unread = ~(given["text.mask"] & given["present.text"][:, None])
        out["text.ids"] = jnp.where(unread, 7, given["text.ids"])
        return out

    def loss(params, seen):
        return jnp.sum(run(model, {**variables, "params": params}, seen)["logits"] ** 2)

    value_and_gradient, spoil = jax.jit(jax.value_and_grad(loss)), jax.jit(spoilt)
    values = [value_and_gradient(variables["params"], spoil(v)) for v in (0.0, 1e3, jnp.nan)]
    assert np.isfinite(values[0][0])
    for value, gradient in values[1:]:
        np.testing.assert_array_equal(value, values[0][0])
        jax.tree.map(np.testing.assert_array_equal, gradient, values[0][1])


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_strict_promotion(name, strict):
    model, variables = ready(name)

    def loss(params):
        ctx = StepContext(jnp.int32(0), jax.random.key(0))
        outputs, _ = model.apply({**variables, "params": params}, batch(), ctx, {})
        return jnp.sum(outputs["logits"] ** 2)

    gradient = jax.jit(jax.grad(loss))(variables["params"])
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_unknown_patch_and_unknown_modality_are_refused_by_name():
    model, variables = ready("text lstm")
    with pytest.raises(UserError, match=r"hidden.text.9.*hidden.text.0"):
        run(model, variables, batch(), patch={"hidden.text.9": jnp.zeros(1)})
    with pytest.raises(UserError, match=r"shape"):
        run(model, variables, batch(), patch={"embedding": jnp.zeros(1)})
    without = {k: v for k, v in batch().items() if not k.startswith("text")}
    with pytest.raises(UserError, match="no modality 'text'"):
        run(model, variables, without)


def test_a_modality_that_the_model_never_sees_is_not_needed():
    model, variables = ready("audio tdnn")
    only = {k: v for k, v in batch().items() if "audio" in k or k == "example_id"}
    np.testing.assert_array_equal(run(model, variables, only)["logits"], run(model, variables, batch())["logits"])


@pytest.mark.full
def test_dropout_belongs_to_the_example():
    model, variables = ready("concat")
    given = batch()
    apply = jax.jit(lambda given, step: run(model, variables, given, train=True, step=0)["logits"], static_argnums=1)
    whole = apply(given, 0)
    turned = jax.tree.map(lambda x: x[::-1], given)
    np.testing.assert_allclose(apply(turned, 0)[::-1], whole, rtol=1e-6)
    half = jax.tree.map(lambda x: x[:3], given)
    np.testing.assert_allclose(apply(half, 0), whole[:3], rtol=1e-6)
    quiet = run(model, variables, given)["logits"]
    later = run(model, variables, given, train=True, step=1)["logits"]
    assert np.abs(whole - quiet).max() > 1e-3 and np.abs(whole - later).max() > 1e-3


def test_dropout_keeps_the_mean():
    from mmkd_jax.nn.dropout import Dropout

    x = jnp.ones((64, 100))
    out: Any = Dropout(0.25).apply({}, x, StepContext(0, jax.random.key(0)), jnp.arange(64))
    np.testing.assert_allclose(np.unique(out), [0, 4 / 3], rtol=1e-6)
    assert abs(float(out.mean()) - 1) < 0.03


def test_reference_student_has_4570_parameters():
    student = linen(Multimodal({"audio": AudioTDNN((16, 16))}, classes=10, width=16))
    given = {"audio": jnp.zeros((2, 32, 32), jnp.uint8), "example_id": jnp.arange(2)}
    shapes = jax.eval_shape(student.init, jax.random.key(0), given)
    assert sum(x.size for x in jax.tree.leaves(shapes)) == 4_570


def test_gates_ignore_absent_modalities():
    model, variables = ready("gated")
    gates = run(model, variables, batch())["gates"]
    here = np.stack([batch()[f"present.{m}"] for m in ("audio", "image", "text")], -1)
    np.testing.assert_array_equal(gates[~here], 0)
    np.testing.assert_allclose(gates.sum(-1), 1, rtol=1e-6)
    none = batch() | {f"present.{m}": jnp.zeros(ROWS, bool) for m in ("image", "audio", "text")}
    np.testing.assert_array_equal(run(model, variables, none)["gates"], 0)


def test_modules_are_linen_and_pure():
    assert all(isinstance(m, nn.Module) for m in MODELS.values())
    model, variables = ready("gated")
    before = jax.tree.map(np.array, variables)
    ctx = StepContext(jnp.int32(0), jax.random.key(0))
    _, state = applied(model, variables, batch(), ctx)
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.array, variables))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state["batch_stats"], dict(variables["batch_stats"]))
    assert all(jax.tree.leaves(moved))
