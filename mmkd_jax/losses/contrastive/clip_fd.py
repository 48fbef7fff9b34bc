"""Feature distillation of CLIP models."""

from jaxtyping import Array, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.numeric import at_least_float32, mean_square, unit


@checked
def clip_fd(
    student: tuple[Float[Array, "b d"], Float[Array, "b d"]], teacher: tuple[Float[Array, "b d"], Float[Array, "b d"]]
) -> Float[Array, " b"]:
    """Feature distillation (FD of CLIP-KD; MFD where the student's image was masked): MSE of both embeddings.

    Formula: (1 / d) ‖s / ‖s‖ − t / ‖t‖‖², summed over image and text

    Args:
        student: image and text embeddings s, both [b, d].
        teacher: image and text embeddings t, both [b, d]; for another width connect the student.

    Returns:
        Values [b]; the gradient is 0 where a row is zero.

    Compares: embeddings of images and texts
    Extra: a connector for unlike widths
    Source: Yang et al., CLIP-KD: An Empirical Study of CLIP Model Distillation, 2024,
        https://arxiv.org/abs/2307.12732
    Differs: a mean over d, as in the authors' code, whose weight 2000 belongs to it

    Example:
        >>> import jax.numpy as jnp
        >>> x, y = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]])
        >>> clip_fd((x, x), (y, x))
        Array([1.], dtype=float32)
    """
    image, text, to_image, to_text = (unit(x) for x in at_least_float32(*student, *teacher))
    return mean_square(image - to_image) + mean_square(text - to_text)
