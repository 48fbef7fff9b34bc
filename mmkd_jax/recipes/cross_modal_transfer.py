"""From one modality to another."""

from mmkd_jax.arguments import held
from mmkd_jax.part import Part
from mmkd_jax.recipes.setting import Setting


@held
def cross_modal_transfer(setting: Setting, labels: bool = False) -> dict[str, Part]:
    """Cross-modal transfer: what a teacher of one modality knows goes over pairs to a student of another.

    Formula: A: teacher(unseen) ← CE on labels; B: student(seen) ← T² KL(teacher ‖ student) on all pairs

    Args:
        setting: what the parts share; the teacher sees the modalities that the student lacks.
        labels: the student learns from the labels of the pairs, too, where there are some.

    Returns:
        The teacher's part, such as `image_teacher`, and `cross_modal_transfer`.

    Raises:
        UserError: the setting's student lacks nothing.

    Topic: structure
    Compares: logits, of models that share no modality
    Extra: trains a teacher first
    Source: Gupta et al., Cross Modal Distillation for Supervision Transfer, 2016, https://arxiv.org/abs/1507.00448
    Differs: the paper transfers features of the middle and then learns from labels; here logits are transferred

    Example:
        >>> def parts(setting):
        ...     return cross_modal_transfer(setting)
    """
    teacher = setting.teacher(*setting.unseen)
    return teacher | {"cross_modal_transfer": setting.taught(setting.student(), teacher, labels=labels)}
