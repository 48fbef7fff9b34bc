"""Rows of the losses of `losses/features/`."""

from math import sqrt

from mmkd_jax import losses
from tests.losses.cases.case import Case, Sampler, both
from tests.losses.formulas import features as formulas

draw = Sampler(1)

CASES = {
    "hint": Case(losses.hint, formulas.mean_square, draw.pair(4, 3, 2), (both([[1, 3]], [[1, 1]]), {}, [2.0])),
    "cosine": Case(
        losses.cosine,
        formulas.cosine,
        draw.pair(5, 3),
        (both([[3, 4]], [[4, 3]]), {}, [1 - 24 / 25]),
        still_at_zero=True,
    ),
    "attention_transfer": Case(
        losses.attention_transfer,
        formulas.attention_transfer,
        draw.pair(3, 2, 2, 3, teacher=(3, 2, 2, 4)),
        # maps (1, 2) / √5 and (2, 1) / √5
        (both([[[[1], [-2]]]], [[[[2], [1]]]]), {"power": 1.0}, [1 / 5]),
        {"power": 3.0},
        still_at_zero=True,
    ),
    "attention_transfer as in the paper": Case(
        losses.attention_transfer,
        formulas.attention_transfer,
        draw.pair(3, 2, 2, 3, teacher=(3, 2, 2, 4)),
        (both([[[[1], [-2]]]], [[[[2], [1]]]]), {"power": 1.0, "form": "paper"}, [sqrt(2 / 5)]),
        {"form": "paper"},
        zero_if_same=False,  # a norm has a kink at 0: rounding decides on its side
        still_at_zero=True,
    ),
}
