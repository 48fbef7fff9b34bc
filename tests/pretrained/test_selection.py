"""Rules for layers, and scores that find the heads and units that matter."""

import jax
import numpy as np
import pytest

from mmkd_jax.errors import UserError
from mmkd_jax.pretrained.inheritance import Inheritance
from mmkd_jax.pretrained.origins import SubNetwork
from mmkd_jax.pretrained.selection import every, head_norms, mlp_norms, spread, strided
from tests.pretrained.small_encoders import BIG, bert, drawn
from tests.small import equal


def test_layers_by_rule():
    assert spread(12, 6) == (0, 2, 4, 7, 9, 11) and spread(6, 1) == (0,) and spread(4, 4) == (0, 1, 2, 3)
    assert every(12, 4) == (2, 5, 8, 11) and every(6, 3) == (1, 3, 5) and every(5, 3) == (0, 2, 4)
    assert strided(12, 3) == (0, 4, 8) and strided(7, 3) == (0, 2, 4)
    for rule in (spread, every, strided):
        with pytest.raises(UserError, match="cannot select 7 layers of 6: expected 1 to 6"):
            rule(6, 7)


SIZES = {"num_layers": 2, "embed_dim": 8, "num_heads": 2, "mlp_dim": 5}


@pytest.mark.full
def test_the_heads_and_units_that_matter_are_found():
    big, small = bert(**BIG | {"num_layers": 3}), bert(**BIG | SIZES)
    variables = jax.tree.map(np.copy, drawn(big))
    layers = variables["params"]["encoders_text"]["transformer"]
    best = {0: ((1, 3), (0, 1, 2, 3, 14)), 2: ((0, 2), (5, 6, 8, 9, 11))}
    for i, (heads, inner) in best.items():
        own = layers[f"layer_{i}"]
        for h in set(range(4)) - set(heads):  # large values that are hardly read, and the other way round
            of = slice(4 * h, 4 * h + 4)
            large, small_one = ("value", "out") if h % 2 else ("out", "value")
            for name, factor in ((large, 30.0), (small_one, 1e-3)):
                rows = own[name]["kernel"] if name == "out" else own[name]["kernel"].T
                rows[of] *= factor
            own["value"]["bias"][of] *= 30.0 if large == "value" else 1e-3
        for u in set(range(15)) - set(inner):
            own["shrink"]["kernel"][u] *= 1e-3 if u % 2 else 30.0
            own["grow"]["kernel"][:, u] *= 30.0 if u % 2 else 1e-3
            own["grow"]["bias"][u] *= 30.0 if u % 2 else 1e-3
    scored = SubNetwork((0, 2), head_norms, mlp_norms, range(8))
    named = SubNetwork((0, 2), [h for h, _ in best.values()], [u for _, u in best.values()], range(8))
    found, expected = (Inheritance(small, big, {"text": k})(drawn(small, 1), variables) for k in (scored, named))
    assert equal(found, expected)
    encoder, params = big.encoders["text"], variables["params"]["encoders_text"]
    own = layers["layer_1"]
    value = np.concatenate([own["value"]["kernel"], own["value"]["bias"][None]])
    by_hand = [np.linalg.norm(value[:, 4 * h : 4 * h + 4] @ own["out"]["kernel"][4 * h : 4 * h + 4]) for h in range(4)]
    np.testing.assert_allclose(head_norms(encoder, params)[1], by_hand, rtol=1e-5)
