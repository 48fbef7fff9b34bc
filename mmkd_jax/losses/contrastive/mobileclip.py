"""Affinities of an ensemble of CLIP teachers."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import BadInput, checked
from mmkd_jax.losses.contrastive.distributions import directions, log_affinities, partners
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import divergence


@checked
def mobileclip(
    student: tuple[Float[Array, "b d"], Float[Array, "b d"]],
    teacher: tuple[Float[Array, "b _"], ...],
    *,
    temperature: Positive = 0.01,
    teacher_temperatures: tuple[Positive, ...] = (0.01,),
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Distillation of MobileCLIP: the image–text affinities of several CLIP teachers, each with its temperature.

    Formula: (1 / K) Σ_k ½ (KL(p_k ‖ q) + KL(p'_k ‖ q')), p_k = softmax_j(cos(image_i, text_j) / τ_k) of teacher k, q of
        the student with τ; p', q' from text to image

    Args:
        student: image and text embeddings, both [b, d].
        teacher: image and text embeddings of the first teacher, [b, e₁] both, then of the second, and so on.
        temperature: τ > 0, the student's.
        teacher_temperatures: τ_k > 0, one for each teacher, or one for all.
        where: rows that count, [b]; the others are no partners either.
        axis: the device axis in the per-device forms.

    Returns:
        Values [b].

    Compares: similarities of images and texts, with those of several teachers
    Extra: none
    Source: Vasu et al., MobileCLIP: Fast Image-Text Models through Multi-Modal Reinforced Training, 2024,
        https://arxiv.org/abs/2311.17049
    Differs: the authors' code takes the cross-entropy with the mean of the teachers' distributions: the same gradient,
        and larger by the mean of the teachers' entropies

    Example:
        >>> x = jnp.eye(2)
        >>> mobileclip((x, x), (x, x, 2 * x, 2 * x))
        Array([0., 0.], dtype=float32)
    """
    if len(teacher) % 2 or not teacher:
        raise BadInput(f"mobileclip: teacher has {len(teacher)} arrays; expected an image and a text of each teacher")
    count = len(teacher) // 2
    if len(teacher_temperatures) not in (1, count):
        given = f"{len(teacher_temperatures)} numbers for {count} teachers"
        raise BadInput(f"mobileclip: teacher_temperatures has {given}; expected one, or one for each")
    mask, (image, text, *others) = directions((*student, *teacher), where)
    allowed, _ = partners(mask, axis)
    each = (teacher_temperatures * count)[:count]

    def towards(ours, theirs, t):
        return divergence(
            log_affinities(theirs[0], theirs[1], t, allowed, axis),
            log_affinities(ours[0], ours[1], temperature, allowed, axis),
        )

    values = jnp.zeros_like(image[:, 0])
    for t, to_image, to_text in zip(each, others[::2], others[1::2], strict=True):
        values = (
            values + towards((image, text), (to_image, to_text), t) + towards((text, image), (to_text, to_image), t)
        )
    return values / (2 * count)
