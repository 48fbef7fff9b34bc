"""Layers of a student beside those of its teacher."""

from jaxtyping import Array, Float

from mmkd_jax.losses.checked import BadInput
from mmkd_jax.losses.numeric import at_least_float32


def beside(
    loss: str, student: tuple[Float[Array, "..."], ...], teacher: tuple[Float[Array, "..."], ...]
) -> list[tuple[Array, Array]]:
    """Each of the student's arrays with the teacher's at the same place, all in one dtype.

    Raises:
        BadInput: they are not equally many, or none.
    """
    if len(student) != len(teacher) or not student:
        raise BadInput(f"{loss}: student has {len(student)} arrays, teacher {len(teacher)}; expected equally many")
    arrays = at_least_float32(*student, *teacher)
    return list(zip(arrays[: len(student)], arrays[len(student) :], strict=True))
