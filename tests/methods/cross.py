"""What the tests of cross-modal methods share: models that see an image, hear, or both, and each method on them."""

import functools

import jax
import jax.numpy as jnp

from mmkd_jax import methods
from mmkd_jax.core.model import StepContext
from tests.small import look, make_batch, net, on_device

MODELS = {
    "image_teacher": net(6, "image"),
    "audio_teacher": net(6, "audio"),
    "student": net(8, "image", "audio"),
    "image_net": net(6, "image"),
    "audio_net": net(6, "audio", batch_norm=True),
}
TRAINED = ("student", "image_net", "audio_net")
METHODS = {
    "umt": methods.umt({m: f"{m}_teacher.features.{m}" for m in ("image", "audio")}, weight=0.1),
    "mke": methods.mke(
        ("image", "audio"), noise=0.5, teacher="image_teacher", labelled="labelled", weight=0.1, consistency=0.1
    ),
    "c2kd": methods.c2kd(
        student="audio_net.embedding",
        teacher="image_net.embedding",
        threshold=-1.0,
        weight=0.1,
        where=("labelled", "present.audio"),
    ),
    "dmd": methods.dmd({m: (f"{m}_net.logits", f"{m}_net.embedding") for m in ("image", "audio")}, size=4),
    "ccl": methods.ccl({"audio": "audio_teacher.embedding"}, weight=0.1, where="labelled"),
}


@functools.cache
def variables():
    batch = on_device(make_batch())
    made = jax.jit(
        lambda batch: {
            n: m.init(jax.random.fold_in(jax.random.key(5), i), batch) for i, (n, m) in enumerate(MODELS.items())
        }
    )
    return made(batch)


def first_outputs(batch=None, step=0, train=True):
    """The outputs of a step; the models can be run again."""
    batch = on_device(make_batch() if batch is None else batch)
    ctx = StepContext(jnp.int32(step), jax.random.fold_in(jax.random.key(3), step), train)
    return look(MODELS, variables(), batch, ctx, TRAINED)


def without(batch, modality):
    """The batch as if nobody had ever recorded it."""
    return {k: x for k, x in batch.items() if modality not in k}
