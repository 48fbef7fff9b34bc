"""The Audio Spectrogram Transformer: `(batch, modality, ctx, tap) -> features` [b, d]."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.errors import UserError
from mmkd_jax.models.inputs import visible
from mmkd_jax.models.vit import Vit
from mmkd_jax.views import Batch, Context, Taps


class Ast(Vit):
    """DeiT on a picture of log-mel frames: one row a band, one column a frame, in patches that overlap.

    Every recording has the same number of frames: what fills it up is part of what AST learned from, and of what is
    seen here. A mask is not read.

    Outputs besides those of the layers: `hidden.M.0`, the embedded patches; `tokens.M`, the last tokens after the
    LayerNorm; `pooled.M`, the mean of the class's token and the teacher's, which is the features.

    Attributes:
        size: mel bands and frames.
        patch: bands and frames of a patch.
        stride: bands and frames from one patch to the next.
        extra: tokens before the patches: the class's and the teacher's.

    The others are those of `Vit`.

    Source: Gong et al., AST: Audio Spectrogram Transformer, 2021, https://arxiv.org/abs/2104.01778
    """

    size: tuple[int, ...] = (128, 1024)
    stride: tuple[int, ...] | None = (10, 10)
    channels: int = 1
    extra: int = 2
    pool: str = "extra"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """The smallest batch, for shapes."""
        return {modality: jnp.zeros((1, *self.size[::-1]), jnp.float32)}

    def __call__(self, batch: Batch, modality: str, ctx: Context, tap: Taps) -> Float[Array, "b d"]:
        x = visible(batch, modality)[modality]
        if x.shape[1:] != self.size[::-1]:
            raise UserError(
                f"{modality}: shape {list(x.shape)}; expected [b, {self.size[1]} frames, {self.size[0]} mel bands]: "
                "recordings are filled up, as the processor does"
            )
        return super().__call__({**batch, modality: x.swapaxes(1, 2)[..., None]}, modality, ctx, tap)
