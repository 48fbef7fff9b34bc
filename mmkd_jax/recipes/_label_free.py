"""Label-free distillation."""

from mmkd_jax.data.loader import Loader
from mmkd_jax.recipes.setting import Setting
from mmkd_jax.training.training import Training
from mmkd_jax.validation import validated


@validated
def label_free(setting: Setting, rows: Loader | None = None) -> dict[str, Training]:
    """Label-free distillation: train the student on its teacher's outputs for unlabeled rows.

    Formula: A: teacher(all) ← CE on labels; B: student(seen) ← T² KL(teacher ‖ student) on the transfer set

    The student's last checkpoint is used, so labels do not select it either.

    Args:
        setting: settings shared by all trainings.
        rows: the transfer set, such as `InMemory(pairs.where("labelled", False), 128)`; `setting.all_data` by default.

    Returns:
        The teacher's training, such as `image_audio_teacher`, and `label_free`.

    Topic: structure
    Compares: logits on a transfer set
    Extra: trains a teacher first
    Source: Bucilă et al., Model Compression, 2006, https://doi.org/10.1145/1150402.1150464
    Differs: the paper generates its transfer set from the labeled rows, and fits the logits

    Example:
        >>> def trainings(setting):
        ...     return label_free(setting)
    """
    teacher = setting.teacher(*setting.modalities)
    fields = {"data": setting.all_data if rows is None else rows, "select": "last"}
    return teacher | {"label_free": setting.distilled(setting.student(), teacher, labels=False, **fields)}
