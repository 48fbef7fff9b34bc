"""A multimodal teacher of a student that lacks modalities."""

from mmkd_jax.arguments import held
from mmkd_jax.augment.modalities import withhold
from mmkd_jax.part import Part
from mmkd_jax.recipes.setting import Setting
from mmkd_jax.views import with_input


@held
def mtsd(setting: Setting, missing: float | None = None) -> dict[str, Part]:
    """Multimodal teacher, single-modality student (MTSD): the student lacks in use what its teacher saw.

    Formula: A: teacher(all) ← CE on labels; B: student(seen) ← CE on labels + T² KL(teacher ‖ student) on all rows

    Args:
        setting: what the parts share.
        missing: None: the student has no encoder of the modalities that it lacks. A probability, 0 … 1: it has one,
            and lacks them on so many rows of the training and on all rows in use.

    Returns:
        The teacher's part, such as `image_audio_teacher`, and `mtsd`, or `mtsd_missing`.

    Raises:
        UserError: the setting's student lacks nothing.

    Topic: structure
    Compares: logits, of models of unlike modalities
    Extra: trains a teacher first
    Source: Lopez-Paz et al., Unifying Distillation and Privileged Information, 2016, https://arxiv.org/abs/1511.03643
    Differs: the name is that of surveys; the paper's teacher sees the privileged input alone, here it sees all; a
        missing modality is no subject of the paper

    Example:
        >>> def parts(setting):
        ...     return mtsd(setting, missing=0.5)
    """
    teacher, unseen = setting.teacher(*setting.modalities), setting.unseen
    if missing is None:
        return teacher | {"mtsd": setting.taught(setting.student(), teacher)}
    student = with_input(setting.student(*setting.modalities), withhold(missing, unseen))
    return teacher | {"mtsd_missing": setting.taught(student, teacher)}
