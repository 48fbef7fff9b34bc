"""Multimodal teacher-student distillation."""

from mmkd_jax import losses, methods
from mmkd_jax.core.objective import combine, term
from mmkd_jax.recipes.setting import Setting
from mmkd_jax.training.roles import Trained
from mmkd_jax.training.training import Training
from mmkd_jax.typing import NotNegative
from mmkd_jax.validation import validated


@validated
def mtsd(
    setting: Setting, weight: NotNegative = 1.0, fused: str = "embedding", features: str = "features"
) -> dict[str, Training]:
    """Multimodal teacher–student distillation (MTSD): logits, fused features and features per modality.

    Formula: A: teacher(all) ← CE on labels; B: student(all) ← CE on labels + T² KL(teacher ‖ student)
        + w ( ‖W₀ h_S − h_T‖² + Σ_m ‖W_m f_S,m − f_T,m‖² )
        on all rows, h the fused features, f_m the features of modality m

    Args:
        setting: settings shared by all trainings.
        weight: weight w of each feature term; 0 is `md`.
        fused: name of both models' fused features.
        features: prefix of both models' features per modality, `FEATURES.MODALITY`.

    Returns:
        The teacher's training, such as `image_audio_teacher`, and `mtsd`.

    Topic: structure
    Compares: logits, and features through linear maps that are trained with the student
    Extra: trains a teacher first; one linear map for each modality and one for the fused features
    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, https://arxiv.org/abs/1503.02531
    Differs: the name is from surveys; the feature terms are those of FitNets, https://arxiv.org/abs/1412.6550

    Example:
        >>> def trainings(setting):
        ...     return mtsd(setting, weight=0.1)
    """
    teacher = setting.teacher(*setting.modalities)
    outputs = {"fused": fused} | {m: f"{features}.{m}" for m in setting.modalities}
    hints = {
        name: methods.feature_alignment(
            losses.hint, student=f"student.{path}", teacher=f"teacher.{path}", weight=weight
        )
        for name, path in outputs.items()
    }
    soft = term(losses.kl, student="student.logits", teacher="teacher.logits", temperature=setting.temperature)
    task = setting.task.objective(where=setting.labelled)
    models = {"student": Trained(setting.student(*setting.modalities))}
    models |= setting.frozen_teacher(teacher, ("logits", *outputs.values()))
    training = setting.training(combine(task=task, soft=soft, **hints), models=models, data=setting.all_data)
    return teacher | {"mtsd": training}
