"""Text generation, measured on the reference text: likelihood, perplexity, and exact match of the greedy answer."""

from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from mmkd_jax.core.generation import next_tokens
from mmkd_jax.core.objective import Objective, term
from mmkd_jax.core.task import Task
from mmkd_jax.errors import UserError
from mmkd_jax.numeric import log_softmax, top_class
from mmkd_jax.tasks import _labels
from mmkd_jax.tasks._masked import masked
from mmkd_jax.validation import validated

Headline = Literal["log-likelihood", "accuracy", "exact match"]


@validated
def _token_losses(logits: Float[Array, "b l v"], ids: Integer[Array, "b l"]) -> Float[Array, "b k"]:
    logp = log_softmax(logits[:, :-1].astype(jnp.promote_types(logits.dtype, jnp.float32)))
    return -jnp.take_along_axis(logp, ids[:, 1:, None].astype(jnp.int32), -1)[..., 0]


def generation(
    text: str = "text", prompt: str | None = None, logits: str = "logits", headline: Headline = "log-likelihood"
) -> Task:
    """Text generation by next tokens, measured on the reference text.

    Formula: loss = −mean log p(x_i | x_<i) over the tokens after the prompt; perplexity = exp of it

    "exact match" is the share of texts that greedy decoding gives token for token, the end included: it needs no
    decoding, because the greedy answer is the reference if and only if each token is the most probable one after the
    reference's. For BLEU, chrF or ROUGE, decode with `generation.generate` and use a library such as sacrebleu.

    Args:
        text: name of the modality, with `TEXT.ids` and `TEXT.mask` [b, l] in the batch.
        prompt: name of the mask [b, l] of the prompt, which is not predicted; None keeps the first token only.
        logits: name of the model's output [b, l, v], which at a position predicts the next token.
        headline: metric that decides which step is best.

    Example:
        >>> import jax
        >>> task = generation()
        >>> batch = {"text.ids": jnp.array([[1, 2, 3]]), "text.mask": jnp.ones((1, 3), bool)}
        >>> outputs = {"logits": 9.0 * jax.nn.one_hot(jnp.array([[2, 3, 0]]), 5)}
        >>> found = task.metrics(outputs, batch)
        >>> [float(s / n) for s, n in (found["accuracy"], found["exact match"])]
        [1.0, 1.0]
    """
    if headline not in get_args(Headline):
        raise UserError(
            f"generation: headline={headline!r}; expected one of {', '.join(map(repr, get_args(Headline)))}"
        )

    def objective(model: str = "student", **options) -> Objective:
        each = term(_token_losses, logits=f"{model}.{logits}", ids=f"batch.{text}.ids", **options)
        return masked(each, lambda outputs: next_tokens(outputs.batch, text=text, prompt=prompt)[1])

    def predict(outputs):
        return top_class(outputs[logits])

    def means(outputs, batch):
        ids, predicted = next_tokens(batch, text=text, prompt=prompt)
        valid = batch.get("valid", jnp.ones(len(ids), bool))
        predicted = predicted & valid[:, None]
        loss = jnp.where(predicted, _token_losses(outputs[logits], jnp.asarray(batch[f"{text}.ids"])), 0)
        right = predict(outputs)[:, :-1] == ids
        tokens, texts = jnp.sum(predicted).astype(jnp.float32), predicted.any(-1)
        return {
            "log-likelihood": (-jnp.sum(loss), tokens),
            "accuracy": (jnp.sum(right & predicted).astype(jnp.float32), tokens),
            "exact match": (
                jnp.sum(texts & jnp.all(right | ~predicted, -1)).astype(jnp.float32),
                jnp.sum(texts).astype(jnp.float32),
            ),
        }

    def scores(found):
        return {**found, "perplexity": np.exp(-np.asarray(found["log-likelihood"]))}

    def check(columns):
        ids = _labels.column(columns, f"{text}.ids", "generation", (None,))
        needs = "generation needs integers, as from data.tokenize"
        _labels.check_kind(columns, f"{text}.ids", np.integer, needs, "{!r} are")
        for name in [f"{text}.mask", *([prompt] if prompt else [])]:
            if _labels.column(columns, name, "generation", (ids.shape[1],)).dtype != bool:
                raise UserError(f"{name!r} is {columns[name].dtype}; generation needs a bool mask")
        _labels.refuse(columns, f"{text}.ids", ids, ids < 0, "token ids are 0 or more")
        mask = np.asarray(columns[f"{text}.mask"])
        starts_late = mask.any(1) & ~mask[:, 0]
        _labels.refuse(columns, f"{text}.mask", mask[:, 0], starts_late, "pad on the right: a text starts at token 0")

    def check_all(columns):
        if not np.asarray(next_tokens(columns, text=text, prompt=prompt)[1]).any():
            raise UserError(f"no token of {text!r} comes after its prompt: there is nothing to predict")

    return Task(
        "generation", headline, objective, predict, means, check, scores, headline != "log-likelihood", check_all
    )
