"""Implementations of losses of few classes."""

import jax.numpy as jnp

from mmkd_jax import losses
from tests.losses.golden.recorded import Golden


def topk_and_task(h, s, t, y):
    kd = jnp.mean(losses.topk_kl(s, t, k=h["distill_top_k"], temperature=h["temperature"]))
    return h["alpha"] * kd + (1 - h["alpha"]) * jnp.mean(losses.cross_entropy(s, y))


ROWS = (
    Golden(
        "tunix_logit.*_k[1-9]*",
        "composed",
        "α KL, both sides renormalized on the teacher's k classes, and 1 − α cross-entropy.",
        topk_and_task,
    ),
)
