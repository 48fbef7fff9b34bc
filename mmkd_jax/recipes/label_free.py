"""A student that sees no label."""

from mmkd_jax.arguments import held
from mmkd_jax.data.reader import Reader
from mmkd_jax.part import Part
from mmkd_jax.recipes.setting import Setting


@held
def label_free(setting: Setting, rows: Reader | None = None) -> dict[str, Part]:
    """Label-free distillation: the student learns from its teacher's answers on rows that nobody labelled.

    Formula: A: teacher(all) ← CE on labels; B: student(seen) ← T² KL(teacher ‖ student) on the transfer set

    No label chooses the student's step either: it keeps the last one.

    Args:
        setting: what the parts share.
        rows: the transfer set, such as `Memory(pairs.where("labelled", False), 128)`; `setting.every` by default.

    Returns:
        The teacher's part, such as `image_audio_teacher`, and `label_free`.

    Topic: structure
    Compares: logits, on a transfer set
    Extra: trains a teacher first
    Source: Bucilă et al., Model Compression, 2006, https://doi.org/10.1145/1150402.1150464
    Differs: the paper makes its transfer set up from the labelled rows, and fits the numbers before the softmax

    Example:
        >>> def parts(setting):
        ...     return label_free(setting)
    """
    teacher = setting.teacher(*setting.modalities)
    more = {"data": setting.every if rows is None else rows, "keep": "last"}
    return teacher | {"label_free": setting.taught(setting.student(), teacher, labels=False, **more)}
