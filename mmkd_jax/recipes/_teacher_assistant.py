"""Teacher assistants."""

from mmkd_jax.errors import UserError, choices
from mmkd_jax.recipes.setting import Setting
from mmkd_jax.training.training import Training
from mmkd_jax.validation import validated


@validated
def teacher_assistant(setting: Setting) -> dict[str, Training]:
    """Teacher assistant distillation: a chain of models of intermediate sizes between teacher and student.

    Formula: teacher ← CE on labels; each next size ← CE on labels + T² KL(p of the size before ‖ p) on all rows

    Assistants see all modalities, like the teacher; the student sees `setting.seen`.

    Args:
        setting: settings shared by all trainings; `sizes` has at least three.

    Returns:
        The teacher's training, such as `image_audio_teacher`, `assistant_SIZE` for each intermediate size, and
        `teacher_assistant`.

    Raises:
        UserError: `sizes` has no intermediate size.

    Topic: structure
    Compares: logits along a chain of sizes
    Extra: trains a teacher and its assistants first
    Source: Mirzadeh et al., Improved Knowledge Distillation via Teacher Assistant, 2020, https://arxiv.org/abs/1902.03393
    Differs: the paper has one modality, labels for all rows, and weights the two terms

    Example:
        >>> import dataclasses
        >>> def trainings(setting):
        ...     return teacher_assistant(dataclasses.replace(setting, sizes=("large", "middle", "small")))
    """
    between = setting.sizes[1:-1]
    if not between:
        raise UserError(f"teacher_assistant: sizes are {choices(setting.sizes)}; expected an intermediate size")
    trainings = setting.teacher(*setting.modalities)
    before, steps = dict(trainings), setting.teacher_steps or setting.steps
    for size in between:
        model = setting.model(setting.modalities, size)
        before = {f"assistant_{size}": setting.distilled(model, before, size=size, steps=steps)}
        trainings |= before
    return trainings | {"teacher_assistant": setting.distilled(setting.student(), before)}
