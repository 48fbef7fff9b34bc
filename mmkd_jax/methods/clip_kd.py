"""CLIP-KD: its six terms side by side."""

from collections.abc import Mapping

import flax.linen as nn
import numpy as np

from mmkd_jax import losses
from mmkd_jax.arguments import held
from mmkd_jax.errors import UserError, choices
from mmkd_jax.losses.number import Count, Positive, Share
from mmkd_jax.methods.clip_afd import clip_afd
from mmkd_jax.methods.clip_mfd import masked_pass
from mmkd_jax.objective import Objective, combine, term

SIDES = ("image", "text")


@held
def clip_kd(
    *,
    student: tuple[str, str] = ("student.features.image", "student.features.text"),
    teacher: tuple[str, str] = ("teacher.features.image", "teacher.features.text"),
    temperature: Positive = 0.07,
    teacher_temperature: Positive = 0.01,
    modality: str = "image",
    patch: Count = 16,
    masked: Share = 0.75,
    swap: Mapping[str, Objective | None] | None = None,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """CLIP-KD: relations, features, masked features, gradients, interactive contrast and fused features at once.

    Formula: 2000 FD + 2000 MFD + CRD + ICL + 1e8 GD + AFD

    Args:
        student: paths of the student's image and text embedding.
        teacher: paths of the teacher's.
        temperature: of the student, 1 / its logit scale; all terms begin with it.
        teacher_temperature: of the teacher.
        modality: name of the input that MFD masks.
        patch: side of a patch.
        masked: share of the patches that MFD masks.
        swap: of "fd", "mfd", "crd", "icl", "gd", "afd": what stands in its place, or None to leave it out. It finds the
            student, brought to the teacher's width, at `projected.image` and `projected.text`, and `masked.image`,
            `masked.text` likewise.
        where: mask(s) of the batch.

    Returns:
        An objective; without "mfd" the student is not run again. The weights are numbers: `NAME.weight`. The student's
        own contrastive loss stands beside it: `methods.contrast` of its embeddings, symmetric.

    Topic: contrastive
    Compares: embeddings of images and texts
    Extra: trains two linear layers for AFD, and two that project the student where the widths differ; a further pass
    Source: Yang et al., CLIP-KD: An Empirical Study of CLIP Model Distillation, 2024,
        https://arxiv.org/abs/2307.12732
    Differs: the authors' scripts for the final students have FD, CRD and ICL only, and no weight for AFD: here 1; GD
        has the logit scales as temperatures, as in the authors' code, whose weight it is; temperatures are not learned

    Example:
        >>> final = clip_kd(swap={"mfd": None, "gd": None, "afd": None})
    """
    ours, hidden = (tuple(f"{view}.{side}" for side in SIDES) for view in ("projected", "masked"))
    shared = {"teacher": teacher, "where": where}
    own, its = temperature, teacher_temperature
    terms: dict[str, Objective | None] = {
        "fd": term(losses.clip_fd, student=ours, weight=2000.0, **shared),
        "mfd": term(losses.clip_fd, student=hidden, weight=2000.0, **shared),
        "crd": term(losses.clip_crd, student=student, temperature=own, teacher_temperature=its, **shared),
        "icl": term(losses.clip_icl, student=ours, temperature=own, **shared),
        "gd": term(
            losses.clip_gd, student=ours, temperature=1 / own, teacher_temperature=1 / its, weight=1e8, **shared
        ),
        "afd": clip_afd(student=(ours[0], ours[1]), temperature=own, **shared),
    }
    if unknown := set(swap or {}) - set(terms):
        raise UserError(f"clip_kd has no term {choices(unknown)}; it has: {choices(terms)}")
    kept = {name: part for name, part in (terms | dict(swap or {})).items() if part is not None}
    inner = combine(**kept)

    def widths(views):
        """Of the layers that project the student: only where they must."""
        wide = {s: (views[a].shape[-1], views[b].shape[-1]) for s, a, b in zip(SIDES, student, teacher, strict=True)}
        return {s: there for s, (here, there) in wide.items() if here != there}

    def look(params, share, views):
        layers = {s: nn.Dense(width) for s, width in widths(views).items()}

        def project(side, x):
            return layers[side].apply({"params": params[side]}, x) if side in layers else x

        seen = {"projected": {s: project(s, views[p]) for s, p in zip(SIDES, student, strict=True)}}
        if "mfd" in kept:
            found = masked_pass(views, student, modality, patch, share)
            seen["masked"] = {s: project(s, x) for s, x in found.items()}
        return views.add(**seen)

    def init(views):
        at, project = dict(zip(SIDES, student, strict=True)), {}
        for side, width in widths(views).items():
            project[side] = nn.Dense(width).init(views.ctx.at(side).key, views[at[side]])["params"]
        params, memory = inner.init(look(project, masked, views))
        return {"project": project, "terms": params}, memory | {"numbers": {"masked": np.float32(masked)}}

    def apply(params, memory, views):
        rest = {k: v for k, v in memory.items() if k != "numbers"}
        out, rest = inner.apply(params["terms"], rest, look(params["project"], memory["numbers"]["masked"], views))
        return out, rest | {"numbers": memory["numbers"]}

    return Objective(init, apply)
