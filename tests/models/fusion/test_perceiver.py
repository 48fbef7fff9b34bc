"""`Perceiver` against Jaegle et al., 2021, written out for each row."""

import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.models.fusion import Perceiver
from tests.models.fusion import tokens as t

LATENTS, LAYERS = 3, 2


def written_out(p, made, i, share):
    """Cross-attention to the valid tokens of all modalities, then a latent Transformer layer, `LAYERS` times."""
    every = [np.zeros((0, t.WIDTH))]
    for m in sorted(t.PRESENT):
        if t.PRESENT[m][i]:
            x, places = t.valid_tokens(made, m, i)
            kind = np.asarray(p[f"modality_{m}"], np.float64)
            every.append(t.dense(p[f"embed_{m}"], x) + kind + t.sines(places, t.WIDTH))
    inputs, z, weights = np.concatenate(every), np.asarray(p["latents"], np.float64), []
    for n in range(LAYERS):
        k = 0 if share else n
        z, each = t.layer(p[f"cross_{k}"], z, inputs)
        weights.append(each)
        z, _ = t.layer(p[f"layer_{k}"], z)
    return t.norm(p["norm"], z).mean(0), weights


@pytest.mark.parametrize("share", [True, False])
def test_it_is_the_papers(share):
    fusion = Perceiver(LATENTS, LAYERS, t.WIDTH, t.HEADS, share)
    params, (features, made) = t.ready(fusion), t.outputs()
    assert ("cross_1" in params) is not share
    fused, tapped = t.jitted(fusion, params, features, made)
    for i in range(t.ROWS):
        expected, weights = written_out(params, made, i, share)
        t.close(fused[i], expected)
        for n, each in enumerate(weights):
            mapped = np.asarray(tapped[f"attentions.fusion.inputs.{n}"][i])
            t.close(mapped[..., np.abs(mapped).sum((0, 1)) > 0], each)


def test_padding_moves_no_token():
    """A text with more padding has the same result: positions do not depend on the length."""
    fusion = Perceiver(LATENTS, LAYERS, t.WIDTH, t.HEADS)
    params, (features, made) = t.ready(fusion), t.outputs()
    longer = {**made, "tokens.text": jnp.pad(made["tokens.text"], ((0, 0), (0, 4), (0, 0)), constant_values=jnp.nan)}
    longer["tokens_mask.text"] = jnp.pad(made["tokens_mask.text"], ((0, 0), (0, 4)))
    one, two = (t.jitted(fusion, params, features, x)[0] for x in (made, longer))
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
