"""Multimodal distillation."""

from mmkd_jax.recipes.setting import Setting
from mmkd_jax.training.training import Training
from mmkd_jax.validation import validated


@validated
def md(setting: Setting) -> dict[str, Training]:
    """Multimodal distillation (MD): distill a large teacher into a small student with the same modalities.

    Formula: A: teacher(all) ← CE on labels; B: student(all) ← CE on labels + T² KL(teacher ‖ student) on all rows

    Args:
        setting: settings shared by all trainings.

    Returns:
        The teacher's training, such as `image_audio_teacher`, and `md`.

    Topic: structure
    Compares: logits of models of the same modalities
    Extra: trains a teacher first
    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, https://arxiv.org/abs/1503.02531
    Differs: the name is from surveys; the paper has one modality, and weights the two terms

    Example:
        >>> def trainings(setting):
        ...     return md(setting)
    """
    teacher = setting.teacher(*setting.modalities)
    return teacher | {"md": setting.distilled(setting.student(*setting.modalities), teacher)}
