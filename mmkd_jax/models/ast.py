"""Audio Spectrogram Transformer (AST): `(batch, modality, ctx, tap) -> features` [b, d]."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.errors import UserError
from mmkd_jax.models._inputs import masked_input
from mmkd_jax.models.vit import Vit


class Ast(Vit):
    """Audio Spectrogram Transformer (AST): DeiT on overlapping patches of a log-mel spectrogram.

    Rows of the spectrogram are mel bands, columns are frames. Every recording has the same number of frames. AST was
    trained with padding visible, so padding is visible here too, and a mask is ignored.

    Outputs, in addition to those of the layers: `hidden.M.0`, the embedded patches; `tokens.M`, the last tokens after
    the LayerNorm; `pooled.M`, the features, which are the mean of the class token and the distillation token.

    Attributes:
        size: number of mel bands and of frames.
        patch: mel bands and frames of a patch.
        stride: stride between patches, in mel bands and frames.
        num_prefix_tokens: number of tokens before the patches: the class token and the distillation token.

    The other attributes are those of `Vit`.

    Source: Gong et al., AST: Audio Spectrogram Transformer, 2021, https://arxiv.org/abs/2104.01778
    """

    size: tuple[int, ...] = (128, 1024)
    stride: tuple[int, ...] | None = (10, 10)
    channels: int = 1
    num_prefix_tokens: int = 2
    pool: str = "prefix"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    sees_padding = True

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """Return the smallest valid batch, for shape inference."""
        return {modality: jnp.zeros((1, *self.size[::-1]), jnp.float32)}

    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        x = masked_input(batch, modality)[modality]
        if x.shape[1:] != self.size[::-1]:
            raise UserError(
                f"{modality}: shape {list(x.shape)}; expected [b, {self.size[1]} frames, {self.size[0]} mel bands]: "
                "pad the recordings, as the processor does"
            )
        return super().__call__({**batch, modality: x.swapaxes(1, 2)[..., None]}, modality, ctx, tap)
