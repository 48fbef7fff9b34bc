"""Masked feature distillation: the student sees a part of the image."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Num

from mmkd_jax import losses
from mmkd_jax.arguments import held
from mmkd_jax.errors import UserError
from mmkd_jax.losses.number import Count, Number, Share
from mmkd_jax.methods.numbered import numbered
from mmkd_jax.objective import Objective, term
from mmkd_jax.views import Views, output_of


@held
def clip_mfd(
    *,
    student: tuple[str, str] = ("student.features.image", "student.features.text"),
    teacher: tuple[str, str] = ("teacher.features.image", "teacher.features.text"),
    modality: str = "image",
    patch: Count = 16,
    masked: Share = 0.75,
    weight: Number | Callable = 2000.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Masked feature distillation (MFD of CLIP-KD): the teacher's embeddings from a part of the image's patches.

    Formula: (1 / d) ‖s / ‖s‖ − t / ‖t‖‖², summed over image and text; s of the student that sees the share 1 − λ of the
        patches, the others being 0

    Args:
        student: paths of the student's image and text embedding.
        teacher: paths of the teacher's, as wide.
        modality: name of the masked input, [b, h, w, …].
        patch: side of a patch.
        masked: λ, the share of the patches that is masked; which ones belongs to step and example.
        weight: of the term, a number or a schedule.
        where: mask(s) of the batch.

    Returns:
        An objective without parameters; it runs the student once more.

    Topic: contrastive
    Compares: embeddings of images and texts
    Extra: a further pass of the student
    Source: Yang et al., CLIP-KD: An Empirical Study of CLIP Model Distillation, 2024,
        https://arxiv.org/abs/2307.12732
    Differs: the authors' code leaves the masked patches out of the sequence, which only a Vision Transformer can; and
        the masked pass is its only one, so that all other losses see masked images: here views.with_input does that

    Example:
        >>> generated = clip_mfd(patch=8)
    """
    loss = term(losses.clip_fd, student=("masked.image", "masked.text"), teacher=teacher, weight=weight, where=where)

    def look(views, numbers):
        return views.add(masked=masked_pass(views, student, modality, patch, numbers["masked"]))

    return numbered(loss, look, masked=masked)


def masked_pass(views: Views, student: tuple[str, str], modality: str, patch: int, share: Share) -> dict[str, Array]:
    """The student's embeddings where a share of its input's patches is masked."""
    x = views["batch." + modality]
    if x.ndim < 3 or x.shape[1] % patch or x.shape[2] % patch:
        raise UserError(
            f"clip_mfd: {modality} is {list(x.shape)}; expected [b, h, w, …] in patches of {patch} × {patch}"
        )
    model = student[0].partition(".")[0]
    seen = mask_patches(views.ctx.key, views["batch.example_id"], x, patch, share)
    outputs = views.run[model]({**views.batch, modality: seen})
    return {
        side: output_of(outputs, path.partition(".")[2], model)
        for side, path in zip(("image", "text"), student, strict=True)
    }


def mask_patches(
    key: jax.Array, ids: Int[Array, " b"], x: Num[Array, "b h w ..."], patch: int, share: Share
) -> Num[Array, "b h w ..."]:
    """Zeros in a share of the patches of each row, rounded to whole ones."""
    grid = (x.shape[1] // patch, x.shape[2] // patch)
    count = grid[0] * grid[1]
    draw = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i), (count,)))(ids)
    rank = jnp.argsort(jnp.argsort(draw, -1), -1)
    gone = rank < jnp.round(jnp.asarray(share, jnp.float32) * count).astype(rank.dtype)
    gone = jnp.repeat(jnp.repeat(gone.reshape(-1, *grid), patch, 1), patch, 2)
    return jnp.where(gone.reshape(gone.shape + (1,) * (x.ndim - 3)), jnp.zeros((), x.dtype), x)
