"""Uni-modal teachers: each encoder of a multimodal student follows a teacher of its modality alone."""

from collections.abc import Callable, Mapping
from typing import Any

from mmkd_jax.arguments import held
from mmkd_jax.connectors import Linear
from mmkd_jax.errors import UserError
from mmkd_jax.losses.features.hint import hint
from mmkd_jax.losses.number import Number
from mmkd_jax.modalities import presence
from mmkd_jax.objective import Objective, combine, masks, term


@held
def umt(
    teachers: Mapping[str, str],
    *,
    student: str = "student.features",
    weight: Number | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Uni-modal teacher (UMT): the features of each modality stay as good as those that were learned from it alone.

    Formula: Σ_m (1 / D_m) ‖s_m − t_m‖², s_m the student's features of modality m before fusion, t_m those of a teacher
    that was trained on m alone

    Args:
        teachers: modality -> path of its teacher's features, such as {"audio": "audio_teacher.features.audio"}.
        student: path of the student's features without the modality: `student.features` reads `student.features.audio`.
        weight: of each modality's term, a number or a schedule.
        where: mask(s) of the batch; rows that lack a modality (`present.M`) do not count in its term.

    Returns:
        An objective with a term for each modality, under its name.

    Raises:
        UserError: a modality that the batch lacks.

    Topic: contrastive
    Compares: features of each modality
    Extra: a frozen teacher for each modality; trains a linear map where the widths differ
    Source: Du et al., On Uni-Modal Feature Learning in Supervised Multi-Modal Learning, 2023,
        https://arxiv.org/abs/2305.01233
    Differs: the mean over the width is that of BalanceBenchmark, which has the method, too

    Example:
        >>> each = umt({"image": "image_teacher.features.image", "audio": "audio_teacher.features.audio"})
    """
    if not teachers:
        raise UserError("umt: no teacher; give a path for each modality")

    def parts(views):
        terms = {}
        for modality, path in teachers.items():
            sides: dict[str, Any] = {"student": f"{student}.{modality}", "teacher": path}
            rows = masks(where, presence(views.batch, modality))
            width = views[path].shape[-1]
            adapt = {} if views[sides["student"]].shape[-1] == width else {"student": Linear(width)}
            terms[modality] = term(hint, **sides, connect=adapt, weight=weight, where=rows)
        return combine(**terms)

    return Objective(
        lambda views: parts(views).init(views),
        lambda params, memory, views: parts(views).apply(params, memory, views),
    )
