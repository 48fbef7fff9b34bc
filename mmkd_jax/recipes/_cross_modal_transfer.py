"""Cross-modal transfer."""

from mmkd_jax.recipes.setting import Setting
from mmkd_jax.training.training import Training
from mmkd_jax.validation import validated


@validated
def cross_modal_transfer(setting: Setting, labels: bool = False) -> dict[str, Training]:
    """Cross-modal transfer: distill a teacher of one modality into a student of another, on paired data.

    Formula: A: teacher(unseen) ← CE on labels; B: student(seen) ← T² KL(teacher ‖ student) on all pairs

    Args:
        setting: settings shared by all trainings; the teacher sees the modalities that the student lacks.
        labels: train the student on the labels of labeled pairs, too.

    Returns:
        The teacher's training, such as `image_teacher`, and `cross_modal_transfer`.

    Raises:
        UserError: the student sees all modalities.

    Topic: structure
    Compares: logits of models that share no modality
    Extra: trains a teacher first
    Source: Gupta et al., Cross Modal Distillation for Supervision Transfer, 2016, https://arxiv.org/abs/1507.00448
    Differs: the paper transfers intermediate features and then trains on labels; here logits are transferred

    Example:
        >>> def trainings(setting):
        ...     return cross_modal_transfer(setting)
    """
    teacher = setting.teacher(*setting.unseen)
    return teacher | {"cross_modal_transfer": setting.distilled(setting.student(), teacher, labels=labels)}
