"""First the hint, then the answers."""

from mmkd_jax import losses, methods
from mmkd_jax.arguments import held
from mmkd_jax.errors import UserError
from mmkd_jax.objective import combine
from mmkd_jax.part import Part
from mmkd_jax.recipes.setting import Setting


@held
def staged_hints(
    setting: Setting, share: float = 0.25, student: str = "embedding", teacher: str = "embedding"
) -> dict[str, Part]:
    """Staged hints of FitNets: the student first learns its teacher's features, then, from there, its answers.

    Formula: A: teacher(all) ← CE on labels; B: student(seen) ← mean (W s − t)² on all rows; C: from B's values,
        CE on labels + T² KL(teacher ‖ student) on all rows

    Args:
        setting: what the parts share.
        share: of the student's steps that the hint takes, between 0 and 1: both stages together take `setting.steps`.
        student: the output of the student that is guided.
        teacher: the output of the teacher that is its hint.

    Returns:
        The teacher's part, such as `image_audio_teacher`, `staged_hints_1` and `staged_hints_2`. What lies above the
        guided output is not trained in the first stage, whose last step is kept: its accuracy says nothing.

    Raises:
        UserError: one of the stages has no step.

    Topic: structure
    Compares: features, then logits
    Extra: trains a teacher first; two stages; the first trains a linear map
    Source: Romero et al., FitNets: Hints for Thin Deep Nets, 2015, https://arxiv.org/abs/1412.6550
    Differs: the paper lets the weight of the KL decay in its second stage

    Example:
        >>> def parts(setting):
        ...     return staged_hints(setting, share=0.5)
    """
    first = round(share * setting.steps)
    if not 0 < first < setting.steps:
        raise UserError(f"staged_hints: share={share} gives the first stage {first} of {setting.steps} steps")
    source = setting.teacher(*setting.modalities)
    fields = setting.after(source, (teacher,))
    fields["models"] = {"student": setting.student()} | fields["models"]
    sides = {"student": f"student.{student}", "teacher": f"teacher.{teacher}"}
    hint = combine(hint=methods.feature_alignment(losses.hint, **sides))
    stages = {"staged_hints_1": setting.part(hint, data=setting.every, steps=first, keep="last", **fields)}
    go_on = {"take": {"student": "staged_hints_1.student"}, "steps": setting.steps - first}
    return source | stages | {"staged_hints_2": setting.taught(setting.student(), source, **go_on)}
