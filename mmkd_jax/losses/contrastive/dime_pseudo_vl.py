"""Pseudo vision–language score distillation of DIME-FM."""

from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.contrastive._distributions import candidates, log_affinities, normalized_rows
from mmkd_jax.numeric import divergence
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def dime_pseudo_vl(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b d"],
    *,
    temperature: Positive = 0.03,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """Pseudo vision–language score distillation (DIME-FM): the teacher's image embeddings replace texts.

    Formula: 2 KL(p ‖ q), p_i = softmax_j(cos(t_i, t_j) / τ), q_i = softmax_j(cos(s_i, t_j) / τ)

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, d]; if the widths differ, add a connector to the student.
        temperature: τ > 0, for student and teacher.
        where: mask of valid rows, [b]; invalid rows are not candidates either.
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b].

    Compares: similarities to the teacher's embeddings
    Extra: none
    Source: Sun et al., DIME-FM: DIstilling Multimodal and Efficient Foundation Models, 2023,
        https://arxiv.org/abs/2303.18232
    Differs: the factor 2 follows the authors' code, which counts the scores and their transpose

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.eye(2)
        >>> dime_pseudo_vl(x, 2 * x)
        Array([0., 0.], dtype=float32)
    """
    mask, (student, teacher) = normalized_rows((student, teacher), where)
    allowed, _ = candidates(mask, axis_name)
    p = log_affinities(teacher, teacher, temperature, allowed, axis_name)
    return 2 * divergence(p, log_affinities(student, teacher, temperature, allowed, axis_name))
