"""`Bottleneck` against the equations of Nagrani et al., 2021, written out for each row."""

import numpy as np
import pytest

from mmkd_jax.models.fusion import Bottleneck
from tests.models.fusion import tokens as t

LAYERS, SHARED = 3, 2


def written_out(p, features, made, i):
    """Equations 8 and 9 on the valid tokens of the modalities that row i has, with the class tokens' mean."""
    here = [m for m in t.PRESENT if t.PRESENT[m][i]]
    if not here:
        return np.zeros(t.WIDTH), []
    streams = {}
    for m in here:
        first = t.dense(p[f"class_{m}"], np.asarray(features[m][i], np.float64)[None])
        streams[m] = np.concatenate([first, t.dense(p[f"embed_{m}"], t.valid_tokens(made, m, i)[0])])
    shared, all_shared = np.asarray(p["bottleneck"], np.float64), []
    for n in range(LAYERS):
        all_shared.append(shared)
        both = {m: t.layer(p[f"layer_{n}_{m}"], np.concatenate([streams[m], shared]))[0] for m in here}
        streams = {m: x[:-SHARED] for m, x in both.items()}
        shared = np.mean([x[-SHARED:] for x in both.values()], 0)
    return np.mean([t.norm(p[f"norm_{m}"], streams[m][0]) for m in here], 0), all_shared


def test_it_is_the_papers():
    fusion = Bottleneck(LAYERS, SHARED, t.WIDTH, t.HEADS)
    params, (features, made) = t.ready(fusion), t.outputs()
    fused, tapped = t.jitted(fusion, params, features, made)
    for i in range(t.ROWS):
        expected, shared = written_out(params, features, made, i)
        t.close(fused[i], expected)
        for n, z in enumerate(shared):
            t.close(tapped[f"bottleneck.{n}"][i], z)
    assert sorted(n for n in tapped if "bottleneck" in n) == ["bottleneck.0", "bottleneck.1", "bottleneck.2"]


@pytest.mark.full
def test_modalities_exchange_through_the_shared_tokens_alone():
    """With these set to 0 at every layer, a modality is what it is alone."""
    fusion = Bottleneck(2, SHARED, t.WIDTH, t.HEADS)
    params, (features, made) = t.ready(fusion), t.outputs()
    _, plain = t.jitted(fusion, params, features, made)
    zero = {n: np.zeros_like(x) for n, x in plain.items() if n.startswith("bottleneck")}
    _, apart = t.jitted(fusion, params, features, made, patch=zero)
    changed = {**made, "tokens.text": made["tokens.text"] + 1}
    _, still = t.jitted(fusion, params, features, changed, patch=zero)
    np.testing.assert_array_equal(apart["fused.image.2"], still["fused.image.2"])
    _, moved = t.jitted(fusion, params, features, changed)
    assert np.abs(moved["fused.image.2"] - plain["fused.image.2"])[0].max() > 1e-3
    np.testing.assert_array_equal(moved["fused.image.1"], plain["fused.image.1"])  # layer 0 reads the variables
