"""Stages of a student beside those of its teacher."""

from collections.abc import Sequence

from jaxtyping import Array, Float

from mmkd_jax.losses.checked import BadInput
from mmkd_jax.losses.numeric import at_least_float32


def paired(
    loss: str, student: Sequence[Float[Array, "..."]], teacher: Sequence[Float[Array, "..."]]
) -> list[tuple[Array, ...]]:
    """Each of the student's arrays with the teacher's at the same place, in one dtype.

    Raises:
        BadInput: they are not equally many, or two of a pair differ in shape.
    """
    if len(student) != len(teacher):
        raise BadInput(f"{loss}: teacher has {len(teacher)} arrays, student {len(student)}; expected equally many")
    for i, (s, t) in enumerate(zip(student, teacher, strict=True)):
        if s.shape != t.shape:
            raise BadInput(
                f"{loss}: teacher[{i}] is {t.dtype}{list(t.shape)}, but student[{i}] is {list(s.shape)}; "
                "expected one shape"
            )
    return [at_least_float32(s, t) for s, t in zip(student, teacher, strict=True)]
