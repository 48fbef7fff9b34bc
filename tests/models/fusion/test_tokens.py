"""Tokens of encoders as fusions read them: which they are, and which are valid."""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.core.model import StepContext, Taps, linen
from mmkd_jax.models import Bert, Encoders, Multimodal, PerFrame, Timesformer, TransformerConfig, Vit
from mmkd_jax.models.fusion import Bottleneck, CrossModal, Perceiver
from mmkd_jax.models.fusion._tokens import tokens_of
from tests.models import test_every_model as small
from tests.small import applied

PAIR = TransformerConfig(embed_dim=4, num_layers=2, num_heads=2, mlp_dim=6)
LENGTHS = {
    "text bag": 5,
    "text lstm": 5,
    "text transformer": 5,
    "bert": 5,
    "image transformer": 4,
    "image cnn": 9,  # 3 × 3 places
    "audio tdnn": 4,  # of 8 frames
    "audio cnn": 12,  # 4 × 3 places
    "voice lstm": 8,
    "vit": 7,
    "vivit": 7,
    "swin": 4,
    "resnet": 4,
    "frames": 18,
    "timesformer": 9,
    "whisper": 4,
    "ast": 11,
    "wav2vec2": 4,
}
"""Number of tokens of the encoders in the tests of every model."""
ZEROS = ("image cnn", "audio cnn", "resnet", "voice lstm", "audio tdnn", "frames", "wav2vec2")
"""Valid tokens of these may be all zeros: after a ReLU, or a norm over the time of a single frame."""


def pair(config=PAIR):
    image = Vit((6, 6), (3, 2), channels=1, config=config, mean=(0.5,), std=(0.5,))
    return {"text": Bert(9, config, length=small.LENGTH, types=0), "image": image}


def tokens(encoders, batch):
    """The tokens of the one encoder, and its outputs."""

    class Read(nn.Module):
        @nn.compact
        def __call__(self, batch, ctx, patch):
            made = dict(Encoders(encoders)(batch, ctx, patch))
            tap = Taps({})
            tap.outputs.update(made)
            ((_, found),) = tokens_of(Perceiver(), {m: batch[f"present.{m}"] for m in encoders}, tap).items()
            return made | {"x": found.x, "valid": found.mask}

    model = linen(Read())
    ctx = StepContext(0, jax.random.key(0), train=False)
    return jax.jit(lambda batch: model.apply(model.init(jax.random.key(0), batch), batch, ctx, {})[0])(batch)


@pytest.mark.full
@pytest.mark.parametrize("name", LENGTHS)
def test_every_encoder_with_tokens_gives_them_and_their_mask(name):
    ((m, _),) = (encoders := small.encoder(name)).items()
    given = small.batch()
    if name == "whisper":
        given = {k: x for k, x in given.items() if k != "audio.mask"}
    found = tokens(encoders, given)
    assert found["x"].shape[:2] == found["valid"].shape == (small.ROWS, LENGTHS[name])
    here = np.asarray(given[f"present.{m}"])
    assert not found["valid"][~here].any() and not found["x"][~found["valid"]].any()
    if name not in ZEROS:
        assert np.abs(found["x"]).sum(-1)[found["valid"]].all()
    padded = {"text": [5, 3, 1, 0, 2, 0], "audio": {"audio tdnn": [4, 0, 3, 2, 4, 1]}.get(name)}.get(m)
    if padded is not None:
        np.testing.assert_array_equal(found["valid"].sum(1), padded)


def test_masks_of_frames_and_of_tokens_are_joined():
    """Prompts are no tokens of a frame, and a masked frame has no tokens."""
    image = Vit((6, 6), (3, 3), channels=1, config=replace(PAIR, num_layers=1), mean=(0.5,), std=(0.5,), prompts=2)
    given = small.batch()
    found = tokens({"video": PerFrame(image)}, given)
    frames = np.asarray(given["video.mask"] & given["present.video"][:, None])
    np.testing.assert_array_equal(found["valid"], np.repeat(frames, 7, 1) & (np.arange(14) % 7 < 5))


def test_frames_of_a_video_with_attention_in_space_alone_are_masked():
    config = replace(PAIR, num_layers=1)
    encoder = Timesformer((6, 6), (3, 3), 2, 1, config, "space_only", mean=(0.5,), std=(0.5,))
    given = small.batch()
    frames = np.asarray(given["video.mask"] & given["present.video"][:, None])
    np.testing.assert_array_equal(tokens({"video": encoder}, given)["valid"], np.repeat(frames, 5, 1))


def gradient(fusion, config, variables, given):
    def loss(params):
        ctx = StepContext(0, jax.random.key(0), train=False)
        outputs, _ = applied(linen(Multimodal(pair(config), 3, 4, fusion)), {"params": params}, given, ctx)
        return jnp.sum(outputs["logits"] ** 2)

    return jax.jit(jax.value_and_grad(loss))(variables["params"])


@pytest.mark.full
@pytest.mark.parametrize("fusion", [Bottleneck(2, 2, 4, 2), CrossModal(1, 1, 4, 2), Perceiver(2, 1, 4, 2)])
def test_a_bert_and_a_vit_are_trained_through_their_last_tokens(fusion):
    given = small.batch()
    variables = jax.jit(linen(Multimodal(pair(), 3, 4, fusion)).init)(jax.random.key(0), given)
    plain = gradient(fusion, PAIR, variables, given)
    for m in ("text", "image"):
        last = plain[1][f"encoders_{m}"]["transformer"]["layer_1"]
        assert all(np.any(x) for x in jax.tree.leaves(last))
    if isinstance(fusion, Perceiver):
        for config in (replace(PAIR, scan=True), replace(PAIR, remat=True)):
            other = gradient(fusion, config, variables, given)
            jax.tree.map(lambda x, y: np.testing.assert_allclose(y, x, rtol=1e-3, atol=1e-5), plain, other)
