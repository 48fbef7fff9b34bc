"""Masked feature distillation (MFD) of CLIP-KD."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Num

from mmkd_jax import losses
from mmkd_jax.core.method_hyperparams import with_method_hyperparams
from mmkd_jax.core.objective import Objective, term
from mmkd_jax.core.outputs import Outputs, output_of
from mmkd_jax.errors import UserError
from mmkd_jax.typing import Count, Scalar, Share
from mmkd_jax.validation import validated


@validated
def clip_mfd(
    *,
    student: tuple[str, str] = ("student.features.image", "student.features.text"),
    teacher: tuple[str, str] = ("teacher.features.image", "teacher.features.text"),
    modality: str = "image",
    patch: Count = 16,
    masked: Share = 0.75,
    weight: Scalar | Callable = 2000.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Masked feature distillation (MFD of CLIP-KD): match the teacher's embeddings with masked image patches.

    Formula: (1 / d) ‖s / ‖s‖ − t / ‖t‖‖², summed over image and text; s from the student on a share 1 − λ of the
        patches, the others set to 0

    Args:
        student: paths of the student's image and text embeddings.
        teacher: paths of the teacher's image and text embeddings, of the same widths.
        modality: name of the masked input, [b, h, w, …].
        patch: patch size, in pixels per side.
        masked: λ, the share of masked patches; the random choice depends on step and example.
        weight: loss weight, a number or a schedule.
        where: batch mask(s) of the rows that count.

    Returns:
        A parameter-free objective with one extra pass of the student.

    Topic: contrastive
    Compares: image and text embeddings
    Extra: a further pass of the student
    Source: Yang et al., CLIP-KD: An Empirical Study of CLIP Model Distillation, 2024, https://arxiv.org/abs/2307.12732
    Differs: the authors' code drops the masked patches from the sequence, which requires a Vision Transformer; and the
        masked pass is its only pass, so all other losses see masked images, too: use mmkd.with_input for that

    Example:
        >>> generated = clip_mfd(patch=8)
    """
    loss = term(losses.clip_fd, student=("masked.image", "masked.text"), teacher=teacher, weight=weight, where=where)

    def add_masked(outputs, hyperparams):
        return outputs.add(masked=masked_pass(outputs, student, modality, patch, hyperparams["masked"]))

    return with_method_hyperparams(loss, add_masked, masked=masked)


def masked_pass(
    outputs: Outputs, student: tuple[str, str], modality: str, patch: int, share: Share
) -> dict[str, Array]:
    """Return the student's embeddings of the input with a random share of patches masked."""
    x = outputs["batch." + modality]
    if x.ndim < 3 or x.shape[1] % patch or x.shape[2] % patch:
        raise UserError(
            f"clip_mfd: {modality} is {list(x.shape)}; expected [b, h, w, …] in patches of {patch} × {patch}"
        )
    model = student[0].partition(".")[0]
    masked = mask_patches(outputs.ctx.key, outputs["batch.example_id"], x, patch, share)
    model_outputs = outputs.run[model]({**outputs.batch, modality: masked})
    return {
        side: output_of(model_outputs, path.partition(".")[2], model)
        for side, path in zip(("image", "text"), student, strict=True)
    }


def mask_patches(
    key: jax.Array, ids: Int[Array, " b"], x: Num[Array, "b h w ..."], patch: int, share: Share
) -> Num[Array, "b h w ..."]:
    """Set a random share of each row's patches to zero, rounded to a whole number of patches."""
    grid = (x.shape[1] // patch, x.shape[2] // patch)
    count = grid[0] * grid[1]
    draw = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i), (count,)))(ids)
    rank = jnp.argsort(jnp.argsort(draw, -1), -1)
    mask = rank < jnp.round(jnp.asarray(share, jnp.float32) * count).astype(rank.dtype)
    mask = jnp.repeat(jnp.repeat(mask.reshape(-1, *grid), patch, 1), patch, 2)
    return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - 3)), jnp.zeros((), x.dtype), x)
