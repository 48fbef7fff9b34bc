"""Rows of the losses of `losses/contrastive/`."""

from dataclasses import replace
from math import log, log1p

import numpy as np

from mmkd_jax import losses
from tests.losses.cases.case import Case, Sampler, both
from tests.losses.formulas import contrastive as formulas

draw = Sampler(3)
RINGS = ("info_nce, both directions", "siglip")  # computed otherwise

CASES = {
    "info_nce": Case(
        losses.info_nce,
        formulas.info_nce,
        draw.pair(5, 3),
        (both(np.eye(2), 2 * np.eye(2)), {"temperature": 1.0}, 2 * [log1p(np.exp(-1))]),
        {"temperature": 0.5},
        zero_if_same=False,
        still_at_zero=True,
    ),
    "info_nce, both directions": Case(
        losses.info_nce,
        formulas.info_nce,
        draw.pair(5, 3),
        # towards the teacher both rows see a tie; back, row 0 is 1 ahead and row 1 is 1 behind
        (
            both(np.eye(2), [[1, 0], [1, 0]]),
            {"temperature": 1.0, "symmetric": True},
            [(log(2) + log1p(np.exp(-1))) / 2, (log(2) + log1p(np.exp(1))) / 2],
        ),
        {"temperature": 0.5, "symmetric": True},
        zero_if_same=False,
        still_at_zero=True,
    ),
    "siglip": Case(
        losses.siglip,
        formulas.siglip,
        draw.pair(5, 3),
        # cosines 1 and 0 with the first, 0 and 0 with a zero row: its own pair is at the bias, too
        (
            both(np.eye(2), [[2, 0], [0, 0]]),
            {"temperature": 0.5, "bias": -1.0},
            [log1p(np.exp(-1)) + log1p(np.exp(-1)), log1p(np.exp(1)) + log1p(np.exp(-1))],
        ),
        {"temperature": 0.5, "bias": -1.0},
        zero_if_same=False,
        still_at_zero=True,
    ),
}
CASES |= {f"{name}, ring": replace(CASES[name], hyper=CASES[name].hyper | {"ring": True}) for name in RINGS}
