"""Feature-wise linear modulation."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Taps
from mmkd_jax.errors import UserError, choices
from mmkd_jax.models.fusion._inputs import Features, Fusion, Present, in_order
from mmkd_jax.typing import Count


class FiLM(Fusion):
    """Feature-wise linear modulation (FiLM): one modality scales and shifts the features of another.

    Formula: fused = γ ⊙ (V f_on + b) + β, γ = 1 + W_γ f_by + b_γ, β = W_β f_by + b_β

    If `by` is absent, γ = 1 and β = 0; if `on` is absent, the result is β; if both are, it is 0.

    Outputs: `gamma` and `beta` [b, d]

    Attributes:
        by: modality that modulates, such as a question.
        on: modality that is modulated, such as an image.
        width: width of the result.

    Raises:
        UserError: the modalities are not `by` and `on`; before the first step.

    Source: Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, 2018,
        https://arxiv.org/abs/1709.07871
    Differs: the paper modulates feature maps inside the encoder of `on`; here it is the encoder's result

    Example:
        >>> import jax
        >>> features, here = {"image": jnp.ones((2, 3)), "text": jnp.ones((2, 5))}, jnp.ones(2, bool)
        >>> inputs = (features, {"image": here, "text": here}, Taps({}))
        >>> FiLM(by="text", on="image", width=8).init_with_output(jax.random.key(0), *inputs)[0].shape
        (2, 8)
    """

    by: str
    on: str
    width: Count = 64

    @nn.compact
    def __call__(self, features: Features, present: Present, tap: Taps) -> Float[Array, "b d"]:
        if self.by == self.on or {self.by, self.on} != set(features):
            expected = f"expected the model's two modalities; it has: {choices(features)}"
            raise UserError(f"FiLM: by is {self.by!r} and on is {self.on!r}; {expected}")
        inputs, _ = in_order(features, present)
        by, on = inputs[self.by], inputs[self.on]

        def where_present(name, modality, x):
            y = nn.Dense(self.width, dtype=x.dtype, name=name)(x)
            return jnp.where(present[modality][:, None], y, jnp.zeros((), x.dtype))

        gamma = tap("gamma", 1 + where_present("gamma", self.by, by))
        beta = tap("beta", where_present("beta", self.by, by))
        return gamma * where_present("value", self.on, on) + beta
