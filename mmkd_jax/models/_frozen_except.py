"""Models of which only some parameters are trained, such as a head on frozen features."""

from collections.abc import Sequence

from mmkd_jax.core.model import Model
from mmkd_jax.core.tuning import matching, tuned


def frozen_except(model: Model, trained: str | Sequence[str]) -> Model:
    """Freeze a model except for some of its parameters, such as a head on the features of an earlier training.

    A training results in the variables of the whole model, and `init_from` takes those of one. Linen modules of which
    all parameters are frozen run with train=False: without dropout, and with the running statistics of BatchNorm.
    Functions of your own, and NNX modules, get the step's context as it is.

    Args:
        model: the whole model.
        trained: dotted paths of the parameters that are trained, below "params"; each may be a pattern and
            includes all below it: "heads_logits", or "*.layer_5.*".

    Returns:
        The partly trained Model, with the same outputs.

    Raises:
        UserError: `model` is not a Model; or, from shapes, a path matches nothing.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from mmkd_jax.core.model import linen
        >>> from mmkd_jax.models import ImageMLP, Multimodal
        >>> net = frozen_except(linen(Multimodal({"image": ImageMLP((4,))}, 3, 4)), "Classifier_0")
        >>> variables = net.init(jax.random.key(0), {"image": jnp.ones((1, 2, 2, 1)), "example_id": jnp.arange(1)})
        >>> sum(x.size for x in jax.tree.leaves(variables["params"]))
        15
    """
    return tuned("frozen_except", model, lambda shapes: dict.fromkeys(matching("frozen_except", trained, list(shapes))))
