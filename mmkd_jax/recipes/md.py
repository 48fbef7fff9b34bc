"""Multimodal distillation."""

from mmkd_jax.arguments import held
from mmkd_jax.part import Part
from mmkd_jax.recipes.setting import Setting


@held
def md(setting: Setting) -> dict[str, Part]:
    """Multimodal distillation (MD): a small student of all modalities learns from a large teacher of them.

    Formula: A: teacher(all) ← CE on labels; B: student(all) ← CE on labels + T² KL(teacher ‖ student) on all rows

    Args:
        setting: what the parts share.

    Returns:
        The teacher's part, such as `image_audio_teacher`, and `md`.

    Topic: structure
    Compares: logits, of models of the same modalities
    Extra: trains a teacher first
    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, https://arxiv.org/abs/1503.02531
    Differs: the name is that of surveys; the paper has one modality, and weighs the two terms

    Example:
        >>> def parts(setting):
        ...     return md(setting)
    """
    teacher = setting.teacher(*setting.modalities)
    return teacher | {"md": setting.taught(setting.student(*setting.modalities), teacher)}
