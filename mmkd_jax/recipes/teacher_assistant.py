"""A chain of sizes."""

from mmkd_jax.arguments import held
from mmkd_jax.errors import UserError, choices
from mmkd_jax.part import Part
from mmkd_jax.recipes.setting import Setting


@held
def teacher_assistant(setting: Setting) -> dict[str, Part]:
    """Teacher assistants: models of sizes in between carry what the teacher knows to a student far smaller.

    Formula: teacher ← CE on labels; each next size ← CE on labels + T² KL(p of the size before ‖ p) on all rows

    Assistants see all modalities, as the teacher does; the student what it sees in use.

    Args:
        setting: what the parts share; `sizes` has at least three.

    Returns:
        The teacher's part, such as `image_audio_teacher`, `assistant_SIZE` for each size in between, and
        `teacher_assistant`.

    Raises:
        UserError: there is no size in between.

    Topic: structure
    Compares: logits, along a chain of sizes
    Extra: trains a teacher and its assistants first
    Source: Mirzadeh et al., Improved Knowledge Distillation via Teacher Assistant, 2020, https://arxiv.org/abs/1902.03393
    Differs: the paper has one modality, labels for all rows, and weighs the two terms

    Example:
        >>> import dataclasses
        >>> def parts(setting):
        ...     return teacher_assistant(dataclasses.replace(setting, sizes=("large", "middle", "small")))
    """
    between = setting.sizes[1:-1]
    if not between:
        raise UserError(f"teacher_assistant: sizes are {choices(setting.sizes)}; expected one in between, at least")
    parts = setting.teacher(*setting.modalities)
    before, steps = dict(parts), setting.teacher_steps or setting.steps
    for size in between:
        model = setting.model(setting.modalities, size)
        before = {f"assistant_{size}": setting.taught(model, before, size=size, steps=steps)}
        parts |= before
    return parts | {"teacher_assistant": setting.taught(setting.student(), before)}
