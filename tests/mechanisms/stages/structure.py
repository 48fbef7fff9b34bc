"""Models that write: next words, tags under masks, the student's own text and the teacher's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import losses, methods
from mmkd_jax.core.model import plain
from mmkd_jax.core.objective import term
from tests.mechanisms.stages.stage import Stage

WORDS, LENGTH, ROWS, TAGS = 5, 6, 16, 3


def speaker(width, words=WORDS):
    """Logits of the next word, and of a tag, from a token and all before it."""

    def init(key, batch):
        a, b, c, d = jax.random.split(key, 4)
        return {
            "embed": 2 * jax.random.normal(a, (WORDS, width)),
            "out": jax.random.normal(b, (width, words)),
            "tag": jax.random.normal(c, (width, TAGS)),
            "transitions": jax.random.normal(d, (TAGS, TAGS)),
        }

    def run(params, batch):
        x = jnp.where(batch["text.mask"][..., None], params["embed"][batch["text.ids"]], 0)
        h = jnp.tanh(jnp.cumsum(x, 1) / 2)
        return {"logits": h @ params["out"], "tags": h @ params["tag"], "transitions": params["transitions"]}

    return plain(run, init)


def batches(steps):
    for seed in range(steps):
        draw = np.random.default_rng(seed)
        length = draw.integers(2, LENGTH + 1, ROWS)
        mask = np.arange(LENGTH)[None] < length[:, None]
        yield {
            "text.ids": np.where(mask, draw.integers(0, WORDS, (ROWS, LENGTH)), 0).astype(np.int32),
            "text.mask": mask,
            "tags": draw.integers(0, TAGS, (ROWS, LENGTH)).astype(np.int32),
            "valid": draw.permutation(ROWS) >= 2,
            "example_id": draw.permutation(64)[:ROWS].astype(np.int32),
        }


MODELS = {"teacher": speaker(6), "student": speaker(4), "stranger": speaker(5, WORDS + 3)}
CHAINS: dict[str, Any] = {m: (f"{m}.tags", f"{m}.transitions") for m in ("student", "teacher")}
LOSSES = {
    "uld": term(
        losses.uld,
        student="student.logits",
        teacher="stranger.logits",
        mask="batch.text.mask",
        teacher_mask="batch.text.mask",
    ),
    "crf_nll": term(
        losses.crf_nll,
        logits="student.tags",
        transitions="student.transitions",
        labels="batch.tags",
        mask="batch.text.mask",
    ),
    "crf_marginal_kl": term(losses.crf_marginal_kl, **CHAINS, mask="batch.text.mask"),
}
PARTS = {
    "methods.token_kd": methods.token_kd(labels="batch.text.ids"),
    "methods.word_kd": methods.word_kd(),
    "methods.gkd": methods.gkd(share=0.7, end=1),
    "methods.gkd, reverse KL": methods.gkd(share=1.0, divergence="reverse_kl"),
    "methods.sequence_kd": methods.sequence_kd(alpha=0.7, end=1),
}
STAGES = {"writing": Stage(MODELS, batches, LOSSES | PARTS)}
