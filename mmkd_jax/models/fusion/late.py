"""Late fusion: a classifier for each modality, whose probabilities are combined."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Taps
from mmkd_jax.models.fusion._inputs import Features, Fusion, Present, in_order, weights_of_present
from mmkd_jax.models.heads import Classifier
from mmkd_jax.numeric import at_least_float32
from mmkd_jax.typing import Count


class Late(Fusion):
    """Late fusion: a classifier for each modality; the logits are the log of their combined probabilities.

    Formula: p_m = softmax(W_m f_m + b_m); "mean" and "learned": logits = log Σ_{m present} w_m p_m, with equal weights,
        or w = softmax_{m present}(a) and learned a; "product": logits = log_softmax((1 / n) Σ_{m present} log p_m)

    The logits are normalized, in at least float32, and distillation at a temperature is that of any other model. With
    one modality present, they are its own. If none is present, all classes have the same probability.

    This fusion ends a model: `Multimodal(encoders, fusion=Late(classes))`, for tasks with one class each row.

    Outputs: `logits.M` [b, c] of each modality M; except for "product", `gates` [b, m], the weights w, in alphabetical
    order of the modalities

    Attributes:
        classes: number of classes.
        weights: how probabilities are combined: "mean", "learned" or "product".

    Source: Kittler et al., On Combining Classifiers, 1998, https://doi.org/10.1109/34.667881: the sum rule and the
        product rule
    Differs: products are those of the n-th roots, so that n equal classifiers give the probabilities of one

    Example:
        >>> features, here = {"image": jnp.ones((2, 3)), "audio": jnp.ones((2, 5))}, jnp.ones(2, bool)
        >>> inputs = (features, {"image": here, "audio": here}, Taps({}))
        >>> logits, _ = Late(4).init_with_output(jax.random.key(0), *inputs)
        >>> [f"{x:.4f}" for x in jnp.exp(logits).sum(-1)]
        ['1.0000', '1.0000']
    """

    classes: Count
    weights: Literal["mean", "learned", "product"] = "mean"
    output = "logits"

    @nn.compact
    def __call__(self, features: Features, present: Present, tap: Taps) -> Float[Array, "b c"]:
        inputs, mask = in_order(features, present)
        wide = dict(zip(inputs, at_least_float32(*inputs.values()), strict=True))
        logits = [tap(f"logits.{m}", Classifier(self.classes, name=f"classifier_{m}")(x)) for m, x in wide.items()]
        logp = jax.nn.log_softmax(jnp.stack(logits, 1), -1)
        some, zero = jnp.any(mask, -1, keepdims=True), jnp.zeros((), logp.dtype)
        if self.weights == "product":
            total = jnp.sum(jnp.where(mask[..., None], logp, zero), 1)
            return jax.nn.log_softmax(total / jnp.maximum(jnp.sum(mask, -1, keepdims=True), 1).astype(logp.dtype), -1)
        score = jnp.zeros((len(inputs),), logp.dtype)
        if self.weights == "learned":
            score = jnp.stack([self.param(f"score_{m}", nn.initializers.zeros, ()) for m in inputs]).astype(logp.dtype)
        weights = tap("gates", weights_of_present(jnp.broadcast_to(score[None], mask.shape), mask))
        counts = (weights > 0)[..., None]
        weighted = logp + jnp.log(jnp.where(counts, weights[..., None], jnp.ones((), logp.dtype)))
        mixed = jax.nn.logsumexp(jnp.where(counts, weighted, jnp.finfo(logp.dtype).min), 1)
        return jax.nn.log_softmax(jnp.where(some, mixed, zero), -1)
