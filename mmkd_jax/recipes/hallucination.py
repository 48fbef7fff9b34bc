"""A branch that imagines a modality."""

import jax
from jaxtyping import Array, Float

from mmkd_jax import losses, methods
from mmkd_jax.arguments import held
from mmkd_jax.models.branches import branches
from mmkd_jax.objective import combine
from mmkd_jax.part import Part
from mmkd_jax.recipes.setting import Setting


@held
def hallucination(setting: Setting, weight: float = 1.0, features: str = "features") -> dict[str, Part]:
    """Modality hallucination: a branch of the student gives, from what it sees, the features of what it does not.

    Formula: A: teacher(unseen) ← CE on labels; B: both branches see the same; CE of each branch and of the mean of
        their logits on labels + w Σ_m mean (σ(W_m h_m) − σ(t_m))² on all pairs, h of the second branch, t the teacher's

    Args:
        setting: what the parts share; the teacher sees the modalities that the student lacks.
        weight: w; 0 is the same student without a teacher.
        features: the features are `FEATURES.MODALITY` of each model. With several modalities seen, all imagine each.

    Returns:
        The teacher's part, such as `image_teacher`, and `hallucination`, whose student has the branches `seen` and
        `imagined`: about twice the parameters of another student.

    Raises:
        UserError: the setting's student lacks nothing.

    Topic: structure
    Compares: features of one modality with those of another
    Extra: trains a teacher first; a second branch; trains a linear map
    Source: Hoffman et al., Learning with Side Information through Modality Hallucination, 2016,
        https://openaccess.thecvf.com/content_cvpr_2016/html/Hoffman_Learning_With_Side_CVPR_2016_paper.html
    Differs: the paper's second branch starts from the teacher's values, which needs one architecture, and it has a
        loss of the seen and the unseen modality's logits together, too; here a linear map stands between the features

    Example:
        >>> def parts(setting):
        ...     return hallucination(setting, weight=10.0)
    """
    teacher = setting.teacher(*setting.unseen)
    fields = setting.after(teacher, tuple(f"{features}.{m}" for m in setting.unseen))
    fields["models"] = {"student": branches(dict.fromkeys(("seen", "imagined"), setting.student()))} | fields["models"]
    where = setting.labelled
    task = {
        "task": setting.task.objective(where=where),
        "seen": setting.task.objective("student.seen", where=where),
        "imagined": setting.task.objective("student.imagined", where=where),
    }
    imagine = {
        f"{mine}_as_{other}": methods.feature_alignment(
            of_sigmoids,
            student=f"student.imagined.{features}.{mine}",
            teacher=f"teacher.{features}.{other}",
            weight=weight,
        )
        for mine in setting.seen
        for other in setting.unseen
    }
    part = setting.part(combine(**task, **imagine), data=setting.every, **fields)
    return teacher | {"hallucination": part}


def of_sigmoids(student: Float[Array, " b *n"], teacher: Float[Array, " b *n"]) -> Float[Array, " b"]:
    """The paper's distance: the mean square of what a sigmoid leaves of the difference."""
    return losses.hint(jax.nn.sigmoid(student), jax.nn.sigmoid(teacher))
