"""Layers of a student beside those of its teacher."""

from collections.abc import Sequence

from jaxtyping import Array, Float

from mmkd_jax.losses.checked import BadInput
from mmkd_jax.losses.numeric import at_least_float32


def beside(
    loss: str, student: Sequence[Float[Array, "..."]], teacher: Sequence[Float[Array, "..."]], *, alike: bool = False
) -> list[tuple[Array, Array]]:
    """Each of the student's arrays with the teacher's at the same place, all in one dtype.

    Raises:
        BadInput: they are not equally many, or none; or, where they must be alike, two at one place differ in shape.
    """
    if len(student) != len(teacher) or not student:
        raise BadInput(f"{loss}: student has {len(student)} arrays, teacher {len(teacher)}; expected equally many")
    for i, (s, t) in enumerate(zip(student, teacher, strict=True)):
        if alike and s.shape != t.shape:
            raise BadInput(
                f"{loss}: teacher[{i}] is {t.dtype}{list(t.shape)}, but student[{i}] is {list(s.shape)}; "
                "expected one shape"
            )
    arrays = at_least_float32(*student, *teacher)
    return list(zip(arrays[: len(student)], arrays[len(student) :], strict=True))
