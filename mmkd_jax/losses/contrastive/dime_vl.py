"""Vision–language score distillation of DIME-FM."""

from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.contrastive._distributions import candidates, log_affinities, normalized_rows
from mmkd_jax.numeric import divergence
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def dime_vl(
    student: tuple[Float[Array, "b d"], Float[Array, "b d"]],
    teacher: tuple[Float[Array, "b e"], Float[Array, "b e"]],
    *,
    temperature: Positive = 0.01,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """Vision–language score distillation (DIME-FM): KL between image–text scores, in both directions.

    Formula: KL(p ‖ q) + KL(p' ‖ q'), p_i = softmax_j(cos(image_i, text_j) / τ) of the teacher, q of the student; p', q'
        from text to image

    Args:
        student: image and text embeddings, both [b, d].
        teacher: image and text embeddings, both [b, e]; the image and text of a row need not match.
        temperature: τ > 0, for student and teacher.
        where: mask of valid rows, [b]; invalid rows are not candidates either.
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b].

    Compares: image–text similarities
    Extra: none
    Source: Sun et al., DIME-FM: DIstilling Multimodal and Efficient Foundation Models, 2023,
        https://arxiv.org/abs/2303.18232
    Differs: the numbers of images and texts must be equal; in the authors' code the student uses the teacher's texts if
        only the image side is trained: pass the teacher's path for that

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.eye(2)
        >>> dime_vl((x, x), (2 * x, x))
        Array([0., 0.], dtype=float32)
    """
    mask, (image, text, to_image, to_text) = normalized_rows((*student, *teacher), where)
    allowed, _ = candidates(mask, axis_name)

    def one_way(ours, theirs):
        p, q = (log_affinities(x[0], x[1], temperature, allowed, axis_name) for x in (theirs, ours))
        return divergence(p, q)

    return one_way((image, text), (to_image, to_text)) + one_way((text, image), (to_text, to_image))
