"""Staged hints of FitNets."""

from mmkd_jax import losses, methods
from mmkd_jax.core.objective import combine
from mmkd_jax.errors import UserError
from mmkd_jax.recipes.setting import Setting
from mmkd_jax.training.roles import Trained
from mmkd_jax.training.training import Training
from mmkd_jax.validation import validated


@validated
def staged_hints(
    setting: Setting, share: float = 0.25, student: str = "embedding", teacher: str = "embedding"
) -> dict[str, Training]:
    """Staged hints of FitNets: pre-train the student on the teacher's features, then distill its logits.

    Formula: A: teacher(all) ← CE on labels; B: student(seen) ← mean (W s − t)² on all rows; C: initialized from B,
        CE on labels + T² KL(teacher ‖ student) on all rows

    Args:
        setting: settings shared by all trainings.
        share: fraction of `setting.steps` for the first stage, between 0 and 1; the second stage takes the rest.
        student: guided output of the student.
        teacher: output of the teacher used as the hint.

    Returns:
        The teacher's training, such as `image_audio_teacher`, `staged_hints_1` and `staged_hints_2`. Layers
        above the guided output are not trained in the first stage, so its accuracy is meaningless; the
        second stage starts from its last step.

    Raises:
        UserError: one of the stages has no steps.

    Topic: structure
    Compares: features, then logits
    Extra: trains a teacher first; two stages; the first also trains a linear map
    Source: Romero et al., FitNets: Hints for Thin Deep Nets, 2015, https://arxiv.org/abs/1412.6550
    Differs: the paper decays the weight of the KL in its second stage

    Example:
        >>> def trainings(setting):
        ...     return staged_hints(setting, share=0.5)
    """
    first = round(share * setting.steps)
    if not 0 < first < setting.steps:
        raise UserError(f"staged_hints: share={share} gives the first stage {first} of {setting.steps} steps")
    source = setting.teacher(*setting.modalities)
    models = {"student": Trained(setting.student())} | setting.frozen_teacher(source, (teacher,))
    sides = {"student": f"student.{student}", "teacher": f"teacher.{teacher}"}
    hint = combine(hint=methods.feature_alignment(losses.hint, **sides))
    stages = {
        "staged_hints_1": setting.training(hint, models=models, data=setting.all_data, steps=first, select="last")
    }
    second = setting.distilled(
        setting.student(), source, init_from="staged_hints_1.student", steps=setting.steps - first
    )
    return source | stages | {"staged_hints_2": second}
