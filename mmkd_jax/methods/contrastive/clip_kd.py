"""CLIP-KD: the sum of its six distillation losses."""

from collections.abc import Mapping

import flax.linen as nn
import numpy as np

from mmkd_jax import losses
from mmkd_jax.core.masking import fill_tree
from mmkd_jax.core.objective import Objective, combine, filled, mask_of, term
from mmkd_jax.errors import UserError, choices
from mmkd_jax.methods.contrastive.clip_afd import clip_afd
from mmkd_jax.methods.contrastive.clip_mfd import masked_pass
from mmkd_jax.typing import Count, Positive, Share
from mmkd_jax.validation import validated

SIDES = ("image", "text")


@validated
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
    """CLIP-KD: sum of its feature, masked-feature, relational, interactive, gradient and augmented-feature losses.

    Formula: 2000 FD + 2000 MFD + CRD + ICL + 1e8 GD + AFD

    Args:
        student: paths of the student's image and text embeddings.
        teacher: paths of the teacher's image and text embeddings.
        temperature: the student's temperature, 1 / its logit scale; initial temperature of all terms.
        teacher_temperature: the teacher's temperature.
        modality: name of the input that MFD masks.
        patch: patch size of the masking, in pixels per side.
        masked: share of the patches that MFD masks.
        swap: term name ("fd", "mfd", "crd", "icl", "gd" or "afd") -> an objective to use instead, or None to drop the
            term. The objective finds the student's embeddings, projected to the teacher's width, at `projected.image`
            and `projected.text`, and those of the masked pass at `masked.image` and `masked.text`.
        where: batch mask(s) of the rows that count.

    Returns:
        An objective; without "mfd" there is no extra student pass. The weights are the hyperparameters `NAME.weight`.
        Add the student's task loss separately: `methods.contrast` of its image and text embeddings, symmetric.

    Topic: contrastive
    Compares: image and text embeddings
    Extra: trains two linear layers for AFD, and two projections of the student if the widths differ; a further pass
    Source: Yang et al., CLIP-KD: An Empirical Study of CLIP Model Distillation, 2024, https://arxiv.org/abs/2307.12732
    Differs: the authors' scripts for the final students use FD, CRD and ICL only, and give no weight for AFD: here 1;
        GD uses the logit scales as temperatures, as in the authors' code, which its weight comes from; temperatures are
        not learned

    Example:
        >>> final = clip_kd(swap={"mfd": None, "gd": None, "afd": None})
    """
    projected, hidden = (tuple(f"{name}.{side}" for side in SIDES) for name in ("projected", "masked"))
    shared = {"teacher": teacher, "where": where}
    terms: dict[str, Objective | None] = {
        "fd": term(losses.clip_fd, student=projected, weight=2000.0, **shared),
        "mfd": term(losses.clip_fd, student=hidden, weight=2000.0, **shared),
        "crd": term(
            losses.clip_crd,
            student=student,
            temperature=temperature,
            teacher_temperature=teacher_temperature,
            **shared,
        ),
        "icl": term(losses.clip_icl, student=projected, temperature=temperature, **shared),
        "gd": term(
            losses.clip_gd,
            student=projected,
            temperature=1 / temperature,
            teacher_temperature=1 / teacher_temperature,
            weight=1e8,
            **shared,
        ),
        "afd": clip_afd(student=(projected[0], projected[1]), temperature=temperature, **shared),
    }
    if unknown := set(swap or {}) - set(terms):
        raise UserError(f"clip_kd: swap names the unknown term {choices(unknown)}; the terms are: {choices(terms)}")
    used = {name: objective for name, objective in (terms | dict(swap or {})).items() if objective is not None}
    inner = combine(**used)

    def widths(outputs):
        """Return the projection width of each side whose embedding widths differ."""
        sizes = {
            s: (outputs[a].shape[-1], outputs[b].shape[-1]) for s, a, b in zip(SIDES, student, teacher, strict=True)
        }
        return {s: target for s, (width, target) in sizes.items() if width != target}

    def add_embeddings(params, share, outputs):
        layers = {s: nn.Dense(width) for s, width in widths(outputs).items()}

        def project(side, x):
            return layers[side].apply({"params": params[side]}, x) if side in layers else x

        added = {"projected": {s: project(s, filled(outputs, p, where)) for s, p in zip(SIDES, student, strict=True)}}
        if "mfd" in used:
            embeddings = masked_pass(outputs, student, modality, patch, share)
            embeddings = fill_tree(embeddings, mask_of(outputs, where))
            added["masked"] = {s: project(s, x) for s, x in embeddings.items()}
        return outputs.add(**added)

    def init(outputs):
        paths, project = dict(zip(SIDES, student, strict=True)), {}
        for side, width in widths(outputs).items():
            project[side] = nn.Dense(width).init(outputs.ctx.at(side).key, outputs[paths[side]])["params"]
        params, state = inner.init(add_embeddings(project, masked, outputs))
        return {"project": project, "terms": params}, state | {"hyperparams": {"masked": np.float32(masked)}}

    def apply(params, state, outputs):
        rest = {k: v for k, v in state.items() if k != "hyperparams"}
        outputs = add_embeddings(params["project"], state["hyperparams"]["masked"], outputs)
        out, rest = inner.apply(params["terms"], rest, outputs)
        return out, rest | {"hyperparams": state["hyperparams"]}

    return Objective(init, apply)
