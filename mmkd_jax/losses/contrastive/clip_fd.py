"""Feature distillation (FD) of CLIP-KD."""

from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, mean_square, unit
from mmkd_jax.validation import validated


@validated
def clip_fd(
    student: tuple[Float[Array, "b d"], Float[Array, "b d"]], teacher: tuple[Float[Array, "b d"], Float[Array, "b d"]]
) -> Float[Array, " b"]:
    """Feature distillation (FD of CLIP-KD; MFD if the student's image is masked): MSE of image and text embeddings.

    Formula: (1 / d) ‖s / ‖s‖ − t / ‖t‖‖², summed over image and text

    Args:
        student: image and text embeddings s, both [b, d].
        teacher: image and text embeddings t, both [b, d]; if the widths differ, add a connector to the student.

    Returns:
        Per-example loss, [b]; zero rows get zero gradient.

    Compares: embeddings of images and texts
    Extra: a connector if the widths differ
    Source: Yang et al., CLIP-KD: An Empirical Study of CLIP Model Distillation, 2024,
        https://arxiv.org/abs/2307.12732
    Differs: averaged over d, as in the authors' code, whose weight 2000 refers to this mean

    Example:
        >>> import jax.numpy as jnp
        >>> x, y = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]])
        >>> clip_fd((x, x), (y, x))
        Array([1.], dtype=float32)
    """
    image, text, to_image, to_text = (unit(x) for x in at_least_float32(*student, *teacher))
    return mean_square(image - to_image) + mean_square(text - to_text)
