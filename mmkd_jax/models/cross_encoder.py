"""Cross-encoder: a score of two texts that are read together."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Batch, ModelOutputs, StepContext, Taps
from mmkd_jax.models._inputs import masked_input
from mmkd_jax.models._scores import negatives_of, tap_scores


class CrossEncoder(nn.Module):
    """Cross-encoder: read query and document of each row as one text, and score the pair.

    Formula: score = w · f([query; document]) + β

    Accurate and slow, as each pair is read anew: a teacher of bi-encoders. The document's tokens follow the query's,
    padding included, and have type 1. The input format of a published cross-encoder, with one start token and without
    padding between the texts, is another one.

    Outputs: `score` [b]; with further documents, also `negative_scores` [b, n], and `scores` [b, 1 + n] with the row's
    own document first; `features.M` and every intermediate of each pair, M being the modality of its document.

    Attributes:
        encoder: text encoder, whose length must be that of query and document together.
        query: modality of the batch with the queries.
        document: modality of the batch with the documents.
        negatives: modalities with further documents of each row, such as "partner.document"; those that a batch lacks
            have no outputs.

    Source: Nogueira and Cho, Passage Re-ranking with BERT, 2019, https://arxiv.org/abs/1901.04085

    Example:
        >>> from mmkd_jax.models import TextTransformer
        >>> teacher = CrossEncoder(TextTransformer(1000, length=96), query="question", document="answer")
    """

    encoder: Any
    query: str = "query"
    document: str = "document"
    negatives: tuple[str, ...] = ()

    @nn.compact
    def __call__(self, batch: Batch, ctx: StepContext, patch: ModelOutputs) -> ModelOutputs:
        tap, head = Taps(patch), nn.Dense(1, name="head")

        def score(modality: str, batch: Batch) -> Float[Array, " b"]:
            features = tap(f"features.{modality}", self.encoder(self._pair(batch, modality), modality, ctx, tap))
            return jax.lax.convert_element_type(head(features)[..., 0], jnp.float32)

        others = negatives_of(batch, self.negatives)
        tap_scores(tap, score(self.document, batch), [score(m, seen) for m, seen in others.items()])
        return tap.outputs

    @nn.nowrap
    def _pair(self, batch: Batch, document: str) -> Batch:
        """Return the batch with the query's tokens before the document's."""
        first, second = masked_input(batch, self.query), masked_input(batch, document)
        pair = {
            f"{document}.{kind}": jnp.concatenate([first[f"{self.query}.{kind}"], second[f"{document}.{kind}"]], 1)
            for kind in ("ids", "mask")
        }
        types = [
            jnp.full(x[f"{m}.ids"].shape, i, jnp.int32)
            for i, (x, m) in enumerate(((first, self.query), (second, document)))
        ]
        return {**batch, **pair, f"{document}.types": jnp.concatenate(types, 1)}
