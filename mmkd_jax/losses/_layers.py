"""Pairing of student and teacher layers."""

from collections.abc import Sequence

from jaxtyping import Array, Float

from mmkd_jax.errors import UserError
from mmkd_jax.numeric import at_least_float32


def beside(
    loss: str, student: Sequence[Float[Array, "..."]], teacher: Sequence[Float[Array, "..."]], *, alike: bool = False
) -> list[tuple[Array, Array]]:
    """Pair the student's arrays with the teacher's by position, all in one dtype.

    Raises:
        UserError: the two sequences are empty or differ in length; or, with `alike`, two paired arrays differ in shape.
    """
    if len(student) != len(teacher) or not student:
        raise UserError(
            f"{loss}: student has {len(student)} arrays, teacher {len(teacher)}; expected the same number, at least 1"
        )
    for i, (s, t) in enumerate(zip(student, teacher, strict=True)):
        if alike and s.shape != t.shape:
            raise UserError(
                f"{loss}: teacher[{i}] is {t.dtype}{list(t.shape)}, but student[{i}] is {list(s.shape)}; "
                "expected the same shape"
            )
    arrays = at_least_float32(*student, *teacher)
    return list(zip(arrays[: len(student)], arrays[len(student) :], strict=True))
