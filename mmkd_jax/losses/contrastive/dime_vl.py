"""Score distillation of images and texts."""

from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.contrastive.distributions import directions, log_affinities, partners
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import divergence


@checked
def dime_vl(
    student: tuple[Float[Array, "b d"], Float[Array, "b d"]],
    teacher: tuple[Float[Array, "b e"], Float[Array, "b e"]],
    *,
    temperature: Positive = 0.01,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Vision–language score distillation (DIME-FM): image–text scores, in both directions.

    Formula: KL(p ‖ q) + KL(p' ‖ q'), p_i = softmax_j(cos(image_i, text_j) / τ) of the teacher, q of the student; p', q'
        from text to image

    Args:
        student: image and text embeddings, both [b, d].
        teacher: image and text embeddings, both [b, e]; image and text of a row need not belong together.
        temperature: τ > 0 of both.
        where: rows that count, [b]; the others are no partners either.
        axis: the device axis in the per-device forms.

    Returns:
        Values [b].

    Compares: similarities of images and texts
    Extra: none
    Source: Sun et al., DIME-FM: DIstilling Multimodal and Efficient Foundation Models, 2023,
        https://arxiv.org/abs/2303.18232
    Differs: images and texts must be as many; in the authors' code the student keeps the teacher's texts where only the
        image side is trained: give that path

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.eye(2)
        >>> dime_vl((x, x), (2 * x, x))
        Array([0., 0.], dtype=float32)
    """
    mask, (image, text, to_image, to_text) = directions((*student, *teacher), where)
    allowed, _ = partners(mask, axis)

    def towards(ours, theirs):
        p, q = (log_affinities(x[0], x[1], temperature, allowed, axis) for x in (theirs, ours))
        return divergence(p, q)

    return towards((image, text), (to_image, to_text)) + towards((text, image), (to_text, to_image))
