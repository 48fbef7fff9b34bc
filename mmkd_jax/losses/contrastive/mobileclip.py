"""MobileCLIP distillation from an ensemble of CLIP teachers."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.errors import UserError
from mmkd_jax.losses.contrastive._distributions import candidates, log_affinities, normalized_rows
from mmkd_jax.numeric import divergence
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def mobileclip(
    student: tuple[Float[Array, "b d"], Float[Array, "b d"]],
    teacher: tuple[Float[Array, "b _"], ...],
    *,
    temperature: Positive = 0.01,
    teacher_temperatures: tuple[Positive, ...] = (0.01,),
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """MobileCLIP distillation: KL to the image–text affinities of several CLIP teachers, each with its temperature.

    Formula: (1 / K) Σ_k ½ (KL(p_k ‖ q) + KL(p'_k ‖ q')), p_k = softmax_j(cos(image_i, text_j) / τ_k) of teacher k, q of
        the student with τ; p', q' from text to image

    Args:
        student: image and text embeddings, both [b, d].
        teacher: image and text embeddings of the first teacher, both [b, e₁], then of the second, and so on.
        temperature: τ > 0, the student's temperature.
        teacher_temperatures: τ_k > 0, one per teacher, or one for all.
        where: mask of valid rows, [b]; invalid rows are not candidates either.
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b].

    Compares: image–text similarities, with those of several teachers
    Extra: none
    Source: Vasu et al., MobileCLIP: Fast Image-Text Models through Multi-Modal Reinforced Training, 2024,
        https://arxiv.org/abs/2311.17049
    Differs: the authors' code takes the cross-entropy with the mean of the teachers' distributions, which has the same
        gradient and is larger by the mean of the teachers' entropies

    Example:
        >>> x = jnp.eye(2)
        >>> mobileclip((x, x), (x, x, 2 * x, 2 * x))
        Array([0., 0.], dtype=float32)
    """
    if len(teacher) % 2 or not teacher:
        raise UserError(
            f"mobileclip: teacher has {len(teacher)} arrays; expected one image and one text array per teacher"
        )
    count = len(teacher) // 2
    if len(teacher_temperatures) not in (1, count):
        counts = f"{len(teacher_temperatures)} values for {count} teachers"
        raise UserError(f"mobileclip: teacher_temperatures has {counts}; expected one, or one per teacher")
    mask, (image, text, *others) = normalized_rows((*student, *teacher), where)
    allowed, _ = candidates(mask, axis_name)
    temperatures = (teacher_temperatures * count)[:count]

    def one_way(ours, theirs, t):
        return divergence(
            log_affinities(theirs[0], theirs[1], t, allowed, axis_name),
            log_affinities(ours[0], ours[1], temperature, allowed, axis_name),
        )

    values = jnp.zeros_like(image[:, 0])
    for t, to_image, to_text in zip(temperatures, others[::2], others[1::2], strict=True):
        values = (
            values + one_way((image, text), (to_image, to_text), t) + one_way((text, image), (to_text, to_image), t)
        )
    return values / (2 * count)
