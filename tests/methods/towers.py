"""Small image–text models and batches for tests: two towers, and what they owe under masks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax.core.model import StepContext, plain
from tests.small import look, on_device

SIDES = ("image", "text")
PATHS: dict[str, Any] = {m: tuple(f"{m}.features.{side}" for side in SIDES) for m in ("student", "teacher")}


def towers(width):
    """Two towers of one layer; `embedding` is the image's."""

    def init(key, batch):
        keys = dict(zip(SIDES, jax.random.split(key), strict=True))
        return {s: jax.random.normal(k, (batch[s][0].size, width)) / 3 for s, k in keys.items()}

    def apply(params, batch):
        features = {s: jnp.tanh(jnp.reshape(batch[s], (len(batch[s]), -1)) @ params[s]) for s in SIDES}
        return {f"features.{s}": x for s, x in features.items()} | {"embedding": features["image"]}

    return plain(apply, init)


MODELS = {"teacher": towers(6), "student": towers(5)}
ALIKE = {"teacher": towers(6), "student": towers(6)}


def captions(seed=0, rows=16):
    """Images with their texts; some rows lack the text, some are padding."""
    draw = np.random.default_rng(seed)
    topic = draw.normal(size=(rows, 4))
    return {
        "image": (draw.normal(size=(rows, 4, 4, 1)) + topic.reshape(rows, 1, 4, 1)).astype(np.float32),
        "text": (draw.normal(size=(rows, 4)) + topic).astype(np.float32),
        "present.text": draw.random(rows) < 0.7,
        "valid": draw.permutation(rows) >= 2 + seed % 3,
        "example_id": draw.permutation(64)[:rows].astype(np.int32),
    }


def first_outputs(models=MODELS, batch=None, step=0):
    """The outputs of a step."""
    key, batch = jax.random.key(5), on_device(batch or captions())
    variables = jax.jit(
        lambda b: {n: m.init(jax.random.fold_in(key, i), b) for i, (n, m) in enumerate(models.items())}
    )(batch)
    return look(models, variables, batch, StepContext(jnp.int32(step), jax.random.fold_in(key, step)))
