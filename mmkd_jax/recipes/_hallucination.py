"""Modality hallucination."""

import jax
from jaxtyping import Array, Float

from mmkd_jax import losses, methods
from mmkd_jax.core.objective import combine
from mmkd_jax.models._branches import branches
from mmkd_jax.recipes.setting import Setting
from mmkd_jax.training.roles import Trained
from mmkd_jax.training.training import Training
from mmkd_jax.validation import validated


@validated
def hallucination(setting: Setting, weight: float = 1.0, features: str = "features") -> dict[str, Training]:
    """Modality hallucination: a student branch predicts features of the unseen modalities from the seen ones.

    Formula: A: teacher(unseen) ← CE on labels; B: both branches see the same input; CE of each branch and of the mean
        of their logits on labels + w Σ_m mean (σ(W_m h_m) − σ(t_m))² on all pairs, h of branch two, t of the teacher

    Args:
        setting: settings shared by all trainings; the teacher sees the modalities that the student lacks.
        weight: w; 0 trains the same student without a teacher.
        features: prefix of both models' features, `FEATURES.MODALITY`. Each seen modality predicts each unseen one.

    Returns:
        The teacher's training, such as `image_teacher`, and `hallucination`, whose student has the branches `seen` and
        `imagined`: about twice the parameters of a student without them.

    Raises:
        UserError: the student sees all modalities.

    Topic: structure
    Compares: features of one modality with those of another
    Extra: trains a teacher first; a second branch; a trained linear map
    Source: Hoffman et al., Learning with Side Information through Modality Hallucination, 2016,
        https://openaccess.thecvf.com/content_cvpr_2016/html/Hoffman_Learning_With_Side_CVPR_2016_paper.html
    Differs: the paper's second branch starts from the teacher's parameters, which needs the same architecture, and it
        also has a loss of the seen and unseen modality's combined logits; here a linear map connects the features

    Example:
        >>> def trainings(setting):
        ...     return hallucination(setting, weight=10.0)
    """
    teacher = setting.teacher(*setting.unseen)
    student = branches(dict.fromkeys(("seen", "imagined"), setting.student()))
    models = {"student": Trained(student)} | setting.frozen_teacher(
        teacher, tuple(f"{features}.{m}" for m in setting.unseen)
    )
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
    training = setting.training(combine(**task, **imagine), models=models, data=setting.all_data)
    return teacher | {"hallucination": training}


def of_sigmoids(student: Float[Array, " b *n"], teacher: Float[Array, " b *n"]) -> Float[Array, " b"]:
    """Mean squared difference of the sigmoids of two features, as in the paper."""
    return losses.hint(jax.nn.sigmoid(student), jax.nn.sigmoid(teacher))
