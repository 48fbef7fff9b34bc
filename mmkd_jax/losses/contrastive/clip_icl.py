"""Interactive contrastive learning (ICL) of CLIP-KD."""

from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.contrastive._distributions import candidates, log_affinities, normalized_rows, positive_nll
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def clip_icl(
    student: tuple[Float[Array, "b d"], Float[Array, "b d"]],
    teacher: tuple[Float[Array, "b d"], Float[Array, "b d"]],
    *,
    temperature: Positive = 0.07,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """Interactive contrastive learning (ICL of CLIP-KD): InfoNCE between student and teacher across modalities.

    Formula: ½ (−log softmax_j(cos(s_i, v_j) / τ)_i) + ½ (the same for the student's text and the teacher's images),
        s the student's image, v the teacher's text

    Args:
        student: image and text embeddings, both [b, d].
        teacher: image and text embeddings, both [b, d]; if the widths differ, add a connector to the student.
        temperature: τ > 0.
        where: mask of valid rows, [b]; invalid rows are not candidates either.
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b].

    Compares: the student's embeddings of one modality with the teacher's of the other
    Extra: a connector if the widths differ
    Source: Yang et al., CLIP-KD: An Empirical Study of CLIP Model Distillation, 2024,
        https://arxiv.org/abs/2307.12732
    Differs: the authors' code multiplies the similarities by a learned scalar initialized to log(1 / 0.07), as if
        τ were initially 0.376

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.eye(2)
        >>> [f"{v:.4f}" for v in clip_icl((x, x), (x, x), temperature=1.0)]
        ['0.3133', '0.3133']
    """
    mask, (image, text, to_image, to_text) = normalized_rows((*student, *teacher), where)
    allowed, positive = candidates(mask, axis_name)

    def one_way(anchor, others):
        return positive_nll(log_affinities(anchor, others, temperature, allowed, axis_name), positive)

    return (one_way(image, to_text) + one_way(text, to_image)) / 2
