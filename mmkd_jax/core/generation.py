"""Autoregressive text generation, and next-token targets."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from mmkd_jax.core.model import Batch
from mmkd_jax.core.outputs import Outputs
from mmkd_jax.errors import UserError, choices
from mmkd_jax.numeric import top_class
from mmkd_jax.typing import Scalar


def generate(
    run: Callable,
    batch: Batch,
    *,
    key: Any = None,
    text: str = "text",
    prompt: str | None = None,
    output: str = "logits",
    temperature: Scalar | None = None,
    end: int | None = None,
) -> dict[str, Any]:
    """Generate text autoregressively from each row's prompt, up to the text length in the batch.

    Tokens after the prompt are hidden from the model. A row without a first token stays empty. Keys and values are not
    cached: the model runs on the whole text, once for each position but the first.

    Args:
        run: `outputs.run[NAME]`: batch -> outputs, whose logits [b, l, c] at a position predict the next token.
        batch: batch with `TEXT.ids` and `TEXT.mask` [b, l]; sampling also needs `example_id` [b].
        key: random key for sampling; a token depends on the key, the example and the position.
        text: name of the modality.
        prompt: name of the mask [b, l] of the prompt tokens; None keeps the first token only.
        output: name of the logits.
        temperature: sampling temperature; None decodes greedily.
        end: end-of-text token, which is included in the text.

    Returns:
        The batch with the generated `TEXT.ids`, zeros after the end, and their mask; gradients are stopped. A token is
        −1 if its logits are NaN.

    Raises:
        UserError: the text, the prompt or the output is missing or has a wrong shape.

    Example:
        >>> count = lambda batch, train: {"logits": 9.0 * jax.nn.one_hot(batch["text.ids"] + 1, 9)}
        >>> batch = {"text.ids": jnp.array([[3, 0, 0, 0]]), "text.mask": jnp.array([[True, False, False, False]])}
        >>> generate(count, batch, end=5)["text.ids"].tolist()
        [[3, 4, 5, 0]]
    """
    given, mask, kept = _parts(batch, text, prompt)
    kept, length = kept & mask, given.shape[1]
    ids, present = jnp.where(kept, given, 0), kept
    keys = None if temperature is None else jax.vmap(lambda i: jax.random.fold_in(key, i))(batch["example_id"])

    def next_token(ids, present, position):
        outputs = run({**batch, f"{text}.ids": ids, f"{text}.mask": present}, train=False)
        logits = jax.lax.stop_gradient(_logits(outputs, output, ids)[:, position - 1])
        best = top_class(logits)
        if keys is None:
            return best.astype(ids.dtype)
        logits = logits.astype(jnp.float32) / jnp.asarray(temperature, jnp.float32)
        sampled = jax.vmap(lambda key, row: jax.random.categorical(jax.random.fold_in(key, position), row))(
            keys, logits
        )
        return jnp.where(best < 0, best, sampled).astype(ids.dtype)

    def step(carry, position):
        ids, present, alive = carry
        writes = alive & ~kept[:, position]
        new = jnp.where(writes, next_token(ids, present, position), ids[:, position])
        if end is not None:
            alive = alive & ~(writes & (new == end))
        present = present.at[:, position].set(present[:, position] | writes)
        return (ids.at[:, position].set(new), present, alive), None

    (ids, present, _), _ = jax.lax.scan(step, (ids, present, present[:, 0]), jnp.arange(1, length))
    return {**batch, f"{text}.ids": ids, f"{text}.mask": present}


def next_tokens(
    batch: Batch, *, text: str = "text", prompt: str | None = None
) -> tuple[Integer[Array, "b k"], Bool[Array, "b k"]]:
    """Return the token after each position but the last, and a mask of those that are present and outside the prompt.

    Example:
        >>> batch = {"text.ids": jnp.array([[3, 4, 5]]), "text.mask": jnp.array([[True, True, False]])}
        >>> [x.tolist() for x in next_tokens(batch)]
        [[[4, 5]], [[True, False]]]
    """
    ids, mask, kept = _parts(batch, text, prompt)
    return ids[:, 1:], (mask & mask[:, :1] & ~kept)[:, 1:]


def next_token_outputs(
    outputs: Outputs,
    name: str,
    batch: Batch,
    logits: Mapping[str, Float[Array, "b l c"]],
    *,
    text: str = "text",
    prompt: str | None = None,
) -> Outputs:
    """Add each model's next-token logits and their target tokens to the outputs, as paths for a term.

    Args:
        outputs: outputs of the step.
        name: name under which they are added: the paths `NAME.MODEL` [b, l − 1, c] and `NAME.ids`, and the mask `NAME`
            of the batch.
        batch: batch with the text on which the logits were computed.
        logits: model -> [b, l, c].
        text: name of the modality.
        prompt: name of the mask of the prompt tokens, which are not targets.
    """
    ids, counts = next_tokens(batch, text=text, prompt=prompt)
    shown = {model: _logits({"logits": x}, "logits", batch[f"{text}.ids"])[:, :-1] for model, x in logits.items()}
    return dataclasses.replace(outputs.add(**{name: {**shown, "ids": ids}}), batch={**outputs.batch, name: counts})


def _parts(batch, text, prompt):
    """Return the ids, their mask, and the mask of the prompt."""
    names = [f"{text}.ids", f"{text}.mask", *([prompt] if prompt else [])]
    if missing := [n for n in names if n not in batch]:
        raise UserError(f"text {text!r} needs {missing[0]!r} [b, l] in the batch, which has: {choices(batch)}")
    ids, *masks = (jnp.asarray(batch[n]) for n in names)
    for n, m in zip(names[1:], masks, strict=True):
        if ids.ndim != 2 or m.dtype != jnp.bool_ or m.shape != ids.shape:
            raise UserError(f"{n!r} is {m.dtype}{list(m.shape)}; expected a bool mask of {text}.ids {list(ids.shape)}")
    first = jnp.broadcast_to(jnp.arange(ids.shape[1]) == 0, ids.shape)
    return ids, masks[0], masks[1] | first if prompt else first


def _logits(outputs, output, ids):
    if output not in outputs:
        raise UserError(f"text generation needs a model output {output!r}; the model has: {choices(outputs)}")
    logits = outputs[output]
    if logits.ndim != 3 or logits.shape[:2] != ids.shape:
        raise UserError(f"{output!r} is {list(logits.shape)}; expected logits [b, l, c] for text {list(ids.shape)}")
    return logits
