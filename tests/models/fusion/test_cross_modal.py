"""`CrossModal` against the equations of Tsai et al., 2019, written out for each row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.models.fusion import CrossModal
from tests.models.fusion import tokens as t

NAMES = ("audio", "image", "text")


def written_out(p, made, i, layers, summary, names=NAMES):
    """Equations 4 to 6 on the valid tokens of row i; a source that it lacks adds nothing to the residual stream."""
    start = {}
    for m in names:
        if t.PRESENT[m][i]:
            x, places = t.valid_tokens(made, m, i)
            start[m] = t.dense(p[f"embed_{m}"], x) + t.sines(places, t.WIDTH)
    found, wide = [], t.WIDTH * max(len(names) - 1, 1)
    for m in names:
        if m not in start:
            found.append(np.zeros(wide))
            continue
        crossed = []
        for s in names:
            if s != m:
                y = start[m]
                for n in range(layers):
                    y, _ = t.layer(p[f"layer_{n}_{m}_from_{s}"], y, start.get(s, np.zeros((0, t.WIDTH))))
                crossed.append(t.norm(p[f"norm_{m}_from_{s}"], y))
        y = np.concatenate(crossed, 1) if crossed else start[m]
        y = t.norm(p[f"norm_{m}"], t.layer(p[f"layer_0_{m}"], y)[0])
        found.append(y.mean(0) if summary == "mean" else y[-1])
    return np.concatenate(found)


@pytest.mark.parametrize(("layers", "summary"), [pytest.param(2, "mean", marks=pytest.mark.full), (1, "last")])
def test_it_is_the_papers(layers, summary):
    fusion = CrossModal(layers, 1, t.WIDTH, t.HEADS, summary)
    params, (features, made) = t.ready(fusion), t.outputs()
    fused, tapped = t.jitted(fusion, params, features, made)
    for i in range(t.ROWS):
        t.close(fused[i], written_out(params, made, i, layers, summary))
    absent = ~t.PRESENT["text"]
    np.testing.assert_array_equal(tapped["attentions.fusion.image.text.0"][absent], 0)
    np.testing.assert_allclose(tapped["attentions.fusion.image.text.0"][~absent].sum(-1), 1, rtol=1e-5)


def test_one_modality_attends_to_itself():
    fusion, only = CrossModal(1, 1, t.WIDTH, t.HEADS), {"text": t.PRESENT["text"]}
    params, (features, made) = t.ready(fusion, only), t.outputs()
    fused, _ = t.jitted(fusion, params, {"text": features["text"]}, made, only)
    for i in range(t.ROWS):
        t.close(fused[i], written_out(params, made, i, 1, "mean", ("text",)))


@pytest.mark.full
def test_a_token_of_zeros_is_a_token():
    """Positions are those of the index: a token whose content starts with 0 is neither padding nor skipped."""
    fusion = CrossModal(1, 1, t.WIDTH, t.HEADS)
    params, (features, made) = t.ready(fusion), t.outputs()
    made["tokens.text"] = made["tokens.text"].at[0, 1].set(0)
    params["embed_text"] = jax.tree.map(jnp.zeros_like, params["embed_text"])
    _, tapped = t.jitted(fusion, params, features, made)
    assert (tapped["attentions.fusion.image.text.0"][0] > 0).all()
    columns = np.asarray(tapped["attentions.fusion.image.text.0"][0]).reshape(-1, 3).T
    assert len({x.tobytes() for x in columns}) == 3, "tokens of equal content differ by their positions"
