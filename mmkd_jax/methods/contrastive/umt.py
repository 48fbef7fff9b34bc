"""Uni-modal teacher distillation (UMT)."""

from collections.abc import Callable, Mapping
from typing import Any

from mmkd_jax.core.modalities import presence
from mmkd_jax.core.objective import Objective, combine, masks, term
from mmkd_jax.errors import UserError
from mmkd_jax.losses.features.hint import hint
from mmkd_jax.nn.connectors import Linear
from mmkd_jax.typing import Scalar
from mmkd_jax.validation import validated


@validated
def umt(
    teachers: Mapping[str, str],
    *,
    student: str = "student.features",
    weight: Scalar | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Uni-modal teacher (UMT): match each modality's features to those of a teacher trained on that modality alone.

    Formula: Σ_m (1 / D_m) ‖s_m − t_m‖², s_m the student's features of modality m before fusion, t_m those of a teacher
        trained on m alone

    Args:
        teachers: modality -> path of its teacher's features, such as {"audio": "audio_teacher.features.audio"}.
        student: path prefix of the student's features: `student.features` reads `student.features.audio` for audio.
        weight: weight of each modality's term, a number or a schedule.
        where: batch mask(s) of the rows that count; rows without a modality (`present.M`) do not count in its term.

    Returns:
        An objective with one term per modality, under its name.

    Raises:
        UserError: a modality is not in the batch.

    Topic: contrastive
    Compares: features of each modality
    Extra: a frozen teacher per modality; trains a linear map if the widths differ
    Source: Du et al., On Uni-Modal Feature Learning in Supervised Multi-Modal Learning, 2023,
        https://arxiv.org/abs/2305.01233
    Differs: the mean over the width follows BalanceBenchmark, which also implements the method

    Example:
        >>> each = umt({"image": "image_teacher.features.image", "audio": "audio_teacher.features.audio"})
    """
    if not teachers:
        raise UserError("umt: teachers is empty; give a mapping modality -> path of its teacher's features")

    def per_modality(outputs):
        terms = {}
        for modality, path in teachers.items():
            sides: dict[str, Any] = {"student": f"{student}.{modality}", "teacher": path}
            rows = masks(where, presence(outputs.batch, modality))
            width = outputs[path].shape[-1]
            adapt = {} if outputs[sides["student"]].shape[-1] == width else {"student": Linear(width)}
            terms[modality] = term(hint, **sides, connect=adapt, weight=weight, where=rows)
        return combine(**terms)

    return Objective(
        lambda outputs: per_modality(outputs).init(outputs),
        lambda params, state, outputs: per_modality(outputs).apply(params, state, outputs),
    )
