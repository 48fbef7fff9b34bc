"""Privileged and missing modalities: distill a multimodal teacher into a student that lacks some of its inputs."""

from mmkd_jax.augment.modalities import withhold
from mmkd_jax.core.model import with_input
from mmkd_jax.recipes.setting import Setting
from mmkd_jax.training.training import Training
from mmkd_jax.validation import validated


@validated
def privileged_modalities(setting: Setting) -> dict[str, Training]:
    """Distillation from privileged modalities: the student has no encoder for some of the teacher's modalities.

    Formula: A: teacher(all) ← CE on labels; B: student(seen) ← CE on labels + T² KL(teacher ‖ student) on all rows

    Args:
        setting: settings shared by all trainings.

    Returns:
        The teacher's training, such as `image_audio_teacher`, and `privileged_modalities`.

    Raises:
        UserError: the student sees all modalities.

    Topic: structure
    Compares: logits of models with different modalities
    Extra: trains a teacher first
    Source: Lopez-Paz et al., Unifying Distillation and Privileged Information, 2016, https://arxiv.org/abs/1511.03643
    Differs: the paper's teacher sees the privileged input alone; here it sees all modalities

    Example:
        >>> def trainings(setting):
        ...     return privileged_modalities(setting)
    """
    _ = setting.unseen  # raises if the student sees all modalities, also under python -O
    teacher = setting.teacher(*setting.modalities)
    return teacher | {"privileged_modalities": setting.distilled(setting.student(), teacher)}


@validated
def missing_modalities(setting: Setting, missing: float | int = 0.5) -> dict[str, Training]:
    """Distillation with missing modalities: the student encodes all of them, but some are missing in some rows.

    Formula: A: teacher(all) ← CE on labels; B: student(all, some missing) ← CE on labels + T² KL(teacher ‖ student) on
        all rows

    Args:
        setting: settings shared by all trainings.
        missing: probability with which a training row lacks the modalities outside `setting.seen`, 0 … 1; evaluation
            rows always lack them.

    Returns:
        The teacher's training, such as `image_audio_teacher`, and `missing_modalities`.

    Raises:
        UserError: the student sees all modalities.

    Topic: structure
    Compares: logits of models with different modalities
    Extra: trains a teacher first
    Source: Lopez-Paz et al., Unifying Distillation and Privileged Information, 2016, https://arxiv.org/abs/1511.03643
    Differs: the paper does not treat missing modalities; its teacher sees the privileged input alone

    Example:
        >>> def trainings(setting):
        ...     return missing_modalities(setting, missing=0.5)
    """
    teacher = setting.teacher(*setting.modalities)
    student = with_input(setting.student(*setting.modalities), withhold(missing, setting.unseen))
    return teacher | {"missing_modalities": setting.distilled(student, teacher)}
