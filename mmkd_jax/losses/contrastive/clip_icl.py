"""Interactive contrastive learning."""

from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.contrastive.distributions import directions, log_affinities, of_own, partners
from mmkd_jax.losses.number import Positive


@checked
def clip_icl(
    student: tuple[Float[Array, "b d"], Float[Array, "b d"]],
    teacher: tuple[Float[Array, "b d"], Float[Array, "b d"]],
    *,
    temperature: Positive = 0.07,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Interactive contrastive learning (ICL of CLIP-KD): the student's images find the teacher's texts, and so on.

    Formula: ½ (−log softmax_j(cos(s_i, v_j) / τ)_i) + ½ (the same of the student's text and the teacher's images),
        s the student's image, v the teacher's text

    Args:
        student: image and text embeddings, both [b, d].
        teacher: image and text embeddings, both [b, d]; for another width connect the student.
        temperature: τ > 0.
        where: rows that count, [b]; the others are no partners either.
        axis: the device axis in the per-device forms.

    Returns:
        Values [b].

    Compares: the student's embeddings of one modality with the teacher's of the other
    Extra: a connector for unlike widths
    Source: Yang et al., CLIP-KD: An Empirical Study of CLIP Model Distillation, 2024,
        https://arxiv.org/abs/2307.12732
    Differs: in the authors' code the similarities are multiplied by a learned number that begins at log(1 / 0.07), as
        if τ were 0.376 at first

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.eye(2)
        >>> [f"{v:.4f}" for v in clip_icl((x, x), (x, x), temperature=1.0)]
        ['0.3133', '0.3133']
    """
    mask, (image, text, to_image, to_text) = directions((*student, *teacher), where)
    allowed, own = partners(mask, axis)

    def towards(anchor, others):
        return of_own(log_affinities(anchor, others, temperature, allowed, axis), own)

    return (towards(image, to_text) + towards(text, to_image)) / 2
