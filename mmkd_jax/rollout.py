"""Texts that a model writes word by word, and the words that a text foretells."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from mmkd_jax.errors import UserError, choices
from mmkd_jax.losses.number import Number
from mmkd_jax.views import Batch, Views


def write(
    run: Callable,
    batch: Batch,
    *,
    key: Any = None,
    text: str = "text",
    prompt: str | None = None,
    output: str = "logits",
    temperature: Number | None = None,
    end: int | None = None,
) -> dict[str, Any]:
    """Let a model go on from each row's prompt, up to the length of the text that stands in the batch.

    What comes after the prompt is hidden from the model. A row without a first word stays empty. There is no cache of
    keys and values: the model runs once for each place but the first, on the whole text.

    Args:
        run: `views.run[NAME]`: batch -> outputs, whose logits [b, l, c] at a place foretell the next word.
        batch: has `TEXT.ids` and `TEXT.mask` [b, l]; and `example_id` [b], where words are drawn.
        key: of the draws: a word belongs to the key, the example and the place.
        text: name of the modality.
        prompt: name of the mask [b, l] of the words that are kept; None keeps the first.
        output: name of the logits.
        temperature: of the draws; None takes the likeliest word.
        end: word after which a text ends; it is part of the text.

    Returns:
        The batch with the written `TEXT.ids`, zeros after the end, and their mask; without a gradient.

    Raises:
        UserError: no such text, prompt or output, or one of another shape.

    Example:
        >>> count = lambda batch, train: {"logits": 9.0 * jax.nn.one_hot(batch["text.ids"] + 1, 9)}
        >>> batch = {"text.ids": jnp.array([[3, 0, 0, 0]]), "text.mask": jnp.array([[True, False, False, False]])}
        >>> write(count, batch, end=5)["text.ids"].tolist()
        [[3, 4, 5, 0]]
    """
    given, mask, kept = _parts(batch, text, prompt)
    kept, places = kept & mask, given.shape[1]
    ids, there = jnp.where(kept, given, 0), kept
    keys = None if temperature is None else jax.vmap(lambda i: jax.random.fold_in(key, i))(batch["example_id"])

    def word(ids, there, place):
        outputs = run({**batch, f"{text}.ids": ids, f"{text}.mask": there}, train=False)
        logits = jax.lax.stop_gradient(_logits(outputs, output, ids)[:, place - 1])
        if keys is None:
            return jnp.argmax(logits, -1).astype(ids.dtype)
        logits = logits.astype(jnp.float32) / jnp.asarray(temperature, jnp.float32)
        drawn = jax.vmap(lambda key, row: jax.random.categorical(jax.random.fold_in(key, place), row))(keys, logits)
        return drawn.astype(ids.dtype)

    def step(carry, place):
        ids, there, alive = carry
        writes = alive & ~kept[:, place]
        new = jnp.where(writes, word(ids, there, place), ids[:, place])
        if end is not None:
            alive = alive & ~(writes & (new == end))
        return (ids.at[:, place].set(new), there.at[:, place].set(there[:, place] | writes), alive), None

    (ids, there, _), _ = jax.lax.scan(step, (ids, there, there[:, 0]), jnp.arange(1, places))
    return {**batch, f"{text}.ids": ids, f"{text}.mask": there}


def next_words(
    batch: Batch, *, text: str = "text", prompt: str | None = None
) -> tuple[Integer[Array, "b k"], Bool[Array, "b k"]]:
    """The word after each place but the last, and whether it counts: it is there, and in no prompt.

    Example:
        >>> batch = {"text.ids": jnp.array([[3, 4, 5]]), "text.mask": jnp.array([[True, True, False]])}
        >>> [x.tolist() for x in next_words(batch)]
        [[[4, 5]], [[True, False]]]
    """
    ids, mask, kept = _parts(batch, text, prompt)
    return ids[:, 1:], (mask & mask[:, :1] & ~kept)[:, 1:]


def foretold(
    views: Views,
    name: str,
    batch: Batch,
    logits: Mapping[str, Float[Array, "b l c"]],
    *,
    text: str = "text",
    prompt: str | None = None,
) -> Views:
    """The views, and under a name each model's logits beside the words that they foretell, as paths of a term.

    Args:
        views: of the step.
        name: of what is added: the paths `NAME.MODEL` [b, l − 1, c] and `NAME.ids`, and the mask `NAME` of the batch.
        batch: of the text that the logits are of.
        logits: model -> [b, l, c].
        text: name of the modality.
        prompt: name of the mask of the words that are not foretold.
    """
    ids, counts = next_words(batch, text=text, prompt=prompt)
    shown = {model: _logits({"logits": x}, "logits", batch[f"{text}.ids"])[:, :-1] for model, x in logits.items()}
    return dataclasses.replace(views.add(**{name: {**shown, "ids": ids}}), batch={**views.batch, name: counts})


def _parts(batch, text, prompt):
    """Ids, mask, and the words that are given."""
    names = [f"{text}.ids", f"{text}.mask", *([prompt] if prompt else [])]
    if missing := [n for n in names if n not in batch]:
        raise UserError(f"a text needs {missing[0]!r} [b, l] in the batch, which has: {choices(batch)}")
    ids, *masks = (jnp.asarray(batch[n]) for n in names)
    for n, m in zip(names[1:], masks, strict=True):
        if ids.ndim != 2 or m.dtype != jnp.bool_ or m.shape != ids.shape:
            raise UserError(f"{n!r} is {m.dtype}{list(m.shape)}; expected a mask of {text}.ids {list(ids.shape)}, bool")
    first = jnp.broadcast_to(jnp.arange(ids.shape[1]) == 0, ids.shape)
    return ids, masks[0], masks[1] | first if prompt else first


def _logits(outputs, output, ids):
    if output not in outputs:
        raise UserError(f"a model that writes needs an output {output!r}; it has: {choices(outputs)}")
    logits = outputs[output]
    if logits.ndim != 3 or logits.shape[:2] != ids.shape:
        raise UserError(f"{output!r} is {list(logits.shape)}; expected logits [b, l, c] of a text {list(ids.shape)}")
    return logits
