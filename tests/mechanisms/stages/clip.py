"""Two image–text models of two towers: CLIP-KD and its kin; queues."""

from typing import Any

import flax.linen as nn

from mmkd_jax import losses, methods
from mmkd_jax.core.objective import term
from mmkd_jax.nn.connectors import Each, Linear
from tests.mechanisms.stages.stage import Stage
from tests.methods.towers import ALIKE, MODELS, PATHS, captions

WIDER = {"connect": {"student": Each((Linear(6), Linear(6)))}}
IMAGES = {"student": "student.embedding", "teacher": "teacher.embedding"}
ONE = {"connect": {"student": Linear(6)}}
SMALL: dict[str, Any] = {"where": "present.text", "weight": 0.01}


def batches(steps):
    for seed in range(steps):
        yield captions(seed, 12)


LOSSES = {
    "clip_crd": term(losses.clip_crd, **PATHS, **SMALL),
    "clip_icl": term(losses.clip_icl, **PATHS, **WIDER, **SMALL),
    "clip_fd": term(losses.clip_fd, **PATHS, **WIDER, **SMALL),
    "clip_gd": term(losses.clip_gd, **PATHS, **WIDER, **SMALL, teacher_temperature=0.07),
    "tinyclip": term(losses.tinyclip, **PATHS, **SMALL),
    "mobileclip": term(
        losses.mobileclip,
        student=PATHS["student"],
        teacher=2 * PATHS["teacher"],
        teacher_temperatures=(0.01, 0.02),
        **SMALL,
    ),
    "dime_vl": term(losses.dime_vl, **PATHS, **SMALL),
    "dime_pseudo_vl": term(losses.dime_pseudo_vl, **IMAGES, **ONE, **SMALL),
    "dime_unimodal": term(losses.dime_unimodal, **IMAGES, **SMALL),
    "compress": term(losses.compress, **IMAGES, keys="student.embedding", teacher_keys="teacher.embedding", **SMALL),
    "seed": term(losses.seed, **IMAGES, keys="teacher.embedding", **ONE, **SMALL),
}
LOSSES |= {
    "in_batch_nll": term(
        losses.in_batch_nll,
        query=PATHS["student"][0],
        document=PATHS["student"][1],
        document_id="batch.example_id",
        **SMALL,
    ),
    "in_batch_kl": term(losses.in_batch_kl, **PATHS, **SMALL),
    "listwise_kl": term(
        losses.listwise_kl, **IMAGES, connect={m: lambda x: x[:, :4] for m in ("student", "teacher")}, **SMALL
    ),
    "margin_mse": term(
        losses.margin_mse, **PATHS, connect={m: lambda x: (x[0][:, 0], x[1][:, :3]) for m in PATHS}, **SMALL
    ),
    "max_sim": term(
        losses.max_sim,
        query=PATHS["student"][0],
        document=PATHS["student"][1],
        connect={side: lambda x: x[:, None] for side in ("query", "document")},
        **SMALL,
    ),
}
METHODS = {
    "methods.compress": methods.compress(20, **SMALL),
    "methods.compress, one queue": methods.compress(20, anchors=None, connect=nn.Dense(6), **SMALL),
    "methods.seed": methods.seed(20, connect=nn.Dense(6), **SMALL),
    "methods.clip_afd": methods.clip_afd(**PATHS, **SMALL),
    "methods.contrast": methods.contrast(*PATHS["student"], symmetric=True, **SMALL),
}
FAMILY = {
    "methods.clip_mfd": methods.clip_mfd(patch=2, **SMALL),
    "methods.clip_kd": methods.clip_kd(patch=2, swap={"fd": None, "gd": None}, where="present.text"),
}
STAGES = {
    "losses": Stage(MODELS, batches, LOSSES),
    "methods": Stage(MODELS, batches, METHODS),
    "family": Stage(ALIKE, batches, FAMILY, rate=1e-4),
}
