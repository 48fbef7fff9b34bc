"""Zero-shot classifiers: CLIP and SigLIP with texts that describe the classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mmkd_jax import numeric
from mmkd_jax.core.model import predict
from mmkd_jax.errors import UserError, choices, shown
from mmkd_jax.models.clip import Clip
from mmkd_jax.pretrained.loading import Pretrained

_ROWS = 64
"""Texts that are embedded at a time."""


def zero_shot(loaded: Pretrained, prompts: Mapping[str, str | Sequence[str]]) -> Pretrained:
    """Return a classifier of images from a CLIP or SigLIP model and texts that describe the classes.

    The texts are embedded once; the result contains the image encoder and the embeddings of the classes, as variables.
    `Frozen(zero_shot(…))` is a teacher whose classes are matched with the data's by name.

    Formula: logit_c = s ⟨u, v_c⟩ + β, with u = x / ‖x‖ of the image embedding x, v_c = w_c / ‖w_c‖, w_c = mean of
        t / ‖t‖ over the embeddings t of the prompts of class c, s = exp(`logit_scale`), and β = `logit_bias` or 0

    Args:
        loaded: a pretrained model with a text and an image encoder, and its processor.
        prompts: name of each class -> its prompt, such as "a photo of a cat", or several prompts, an ensemble.

    Returns:
        A pretrained model with the output `logits` [b, classes], the names of the classes as `labels`, and the image
        processor.

    Raises:
        UserError: the model is no dual encoder, or has no tokenizer; there are no prompts, a prompt is no text, or two
            classes have the same prompts.

    Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021,
        https://arxiv.org/abs/2103.00020
    """
    if not isinstance(loaded, Pretrained):
        raise UserError(f"zero_shot: {type(loaded).__name__}; expected a pretrained model, from pretrained.load")
    module, names = loaded.module, tuple(prompts) if isinstance(prompts, Mapping) else ()
    if not isinstance(module, Clip) or module.encoders.keys() != {"text", "image"} or not module.scaled:
        reads = choices(module.encoders)
        raise UserError(
            f"a model of kind {loaded.kind!r}, which reads {reads}; expected CLIP or SigLIP with both encoders"
        )
    texts = _texts(prompts)
    found = np.split(_embedded(loaded, [t for each in texts for t in each]), np.cumsum([len(t) for t in texts])[:-1])
    classes = np.asarray(numeric.unit(jnp.stack([x.mean(0) for x in found])))
    params = {k: x for k, x in loaded.variables["params"].items() if not k.endswith("_text")}
    return Pretrained(
        module.clone(encoders={"image": module.encoders["image"]}, classes=len(names)),
        {**loaded.variables, "params": params | {"class_embeddings": classes}},
        getattr(loaded.processor, "image", loaded.processor),
        loaded.kind,
        names,
        {m: x for m, x in loaded.inputs.items() if m == "image"},
    )


def _texts(prompts: Any) -> list[list[str]]:
    """Return the prompts of each class, after checking them."""
    if not isinstance(prompts, Mapping) or not prompts:
        raise UserError(
            f"prompts={shown(repr(prompts))}; expected names of classes -> prompts, such as {{'cat': 'a cat'}}"
        )
    texts: dict[tuple[str, ...], str] = {}
    for name, each in prompts.items():
        own = (each,) if isinstance(each, str) else tuple(each) if isinstance(each, Sequence) else ()
        if not isinstance(name, str) or not name:
            raise UserError(f"prompts has a class named {shown(repr(name))}; expected a text")
        if not own or not all(isinstance(t, str) and t.strip() for t in own):
            raise UserError(
                f"prompts of class {shown(repr(name))}: {shown(repr(each))}; expected a text, or a list of texts"
            )
        if own in texts:
            both = " and ".join(shown(repr(x)) for x in (texts[own], name))
            raise UserError(f"classes {both} have the same prompts, {shown(repr(own))}: change one, or remove it")
        texts[own] = name
    return [list(own) for own in texts]


def _embedded(loaded: Pretrained, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
    """Return the text embeddings, divided by their norms."""
    tokenizer = getattr(loaded.processor, "text", None)
    if tokenizer is None:
        raise UserError("zero_shot needs the tokenizer of the model: pass the processor that load returned")
    columns = tokenizer(texts)
    module = loaded.module.clone(encoders={"text": loaded.module.encoders["text"]})
    scopes = {k: x for k, x in loaded.variables["params"].items() if not k.endswith("_image")}
    own = loaded._replace(module=module, inputs={m: x for m, x in loaded.inputs.items() if m == "text"})
    size = min(_ROWS, len(texts))

    @jax.jit
    def embed(variables, batch):
        return numeric.unit(predict(own.model, variables, batch)["embedding.text"].astype(jnp.float32))

    found = []
    for first in range(0, len(texts), size):
        rows = np.minimum(np.arange(first, first + size), len(texts) - 1)  # the last batch repeats its last text
        batch = {k: x[rows] for k, x in columns.items()} | {"example_id": np.asarray(rows, np.int32)}
        found.append(np.asarray(embed({"params": scopes}, batch)))
    return np.concatenate(found)[: len(texts)]
