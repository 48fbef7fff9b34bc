"""Bi-encoder: queries and documents in one space of embeddings."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmkd_jax.core.model import Batch, ModelOutputs, StepContext, Taps
from mmkd_jax.models._scores import negatives_of, tap_scores
from mmkd_jax.numeric import at_least_float32, unit


class BiEncoder(nn.Module):
    """Bi-encoder: encode the query and the document of each row separately, into one space.

    Formula: q = P_q f(query), d = P_d g(document), of unit length if normalized; score = ⟨q, d⟩ / τ

    Outputs: `query` and `document` [b, width], which `tasks.retrieval` reads; `features.M` of each modality, and every
    intermediate; `temperature`, a scalar; `score` [b]. With further documents, also `negative_scores` [b, n], and
    `scores` [b, 1 + n] with the row's own document first, for `losses.margin_mse` and `losses.listwise_kl`.

    Attributes:
        query_encoder: encoder of the queries.
        document_encoder: encoder of the documents; None: that of the queries, with the same variables.
        query: modality of the batch with the queries, such as "text".
        document: modality of the batch with the documents.
        negatives: modalities of the batch with further documents of each row, such as "partner.document"; those that a
            batch lacks have no outputs.
        width: dimension of the space, reached by projections without bias; None takes the features as they are.
        normalize: scale embeddings to unit length, so that inner products are cosines.
        temperature: τ > 0 of the scores; their scale is 1/τ.
        train_temperature: train τ, as a variable log τ. Pass it to a loss with temperature="MODEL.temperature".

    Source: Reimers and Gurevych, Sentence-BERT, 2019, https://arxiv.org/abs/1908.10084

    Example:
        >>> from mmkd_jax.models import ImageCNN, TextBag
        >>> student = BiEncoder(TextBag(1000), ImageCNN((8, 16)), query="text", document="image", width=32)
    """

    query_encoder: Any
    document_encoder: Any = None
    query: str = "query"
    document: str = "document"
    negatives: tuple[str, ...] = ()
    width: int | None = 64
    normalize: bool = True
    temperature: float = 1.0
    train_temperature: bool = False

    @nn.compact
    def __call__(self, batch: Batch, ctx: StepContext, patch: ModelOutputs) -> ModelOutputs:
        tap = Taps(patch)
        shared = self.document_encoder is None
        document_encoder = self.query_encoder if shared else self.document_encoder
        projections = {}
        if self.width is not None:
            projections["query"] = nn.Dense(
                self.width, use_bias=False, name="projection" if shared else "query_projection"
            )
            other = nn.Dense(self.width, use_bias=False, name="document_projection") if not shared else None
            projections["document"] = other or projections["query"]

        def embed(side, encoder, modality, batch):
            x = tap(f"features.{modality}", encoder(batch, modality, ctx, tap))
            (x,) = at_least_float32(projections[side](x) if side in projections else x)
            return unit(x) if self.normalize else x

        query = tap("query", embed("query", self.query_encoder, self.query, batch))
        document = tap("document", embed("document", document_encoder, self.document, batch))
        start = nn.initializers.constant(jnp.log(self.temperature))
        log_temperature = (
            self.param("log_temperature", start, ()) if self.train_temperature else jnp.log(self.temperature)
        )
        temperature = tap("temperature", jnp.exp(jnp.asarray(log_temperature, jnp.float32)))

        def score(document):
            return jnp.sum(query * document, -1) / temperature.astype(query.dtype)

        others = negatives_of(batch, self.negatives)
        tap_scores(
            tap, score(document), [score(embed("document", document_encoder, m, seen)) for m, seen in others.items()]
        )
        return tap.outputs
