"""Prompts in front of a text: they have the first positions, and everything else is the text's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.core.model import linen, predict
from mmkd_jax.errors import UserError
from mmkd_jax.models import Bert, Encoders, ModernBert, TaskHead, TransformerConfig
from mmkd_jax.pretrained import Pretrained, initial, load, save, with_prompts

CONFIG = TransformerConfig(embed_dim=8, num_layers=2, num_heads=2, mlp_dim=12)
IDS = np.random.default_rng(0).integers(2, 9, (2, 5)).astype(np.int32)
BATCH = {
    "text.ids": jnp.asarray(IDS),
    "text.mask": jnp.arange(5)[None] < jnp.array([[5], [3]]),
    "text.types": jnp.asarray(IDS % 2),
    "example_id": jnp.arange(2),
}
KINDS: dict[str, dict[str, Any]] = {
    "bert": {"types": 2, "length": 8},
    "roberta": {"types": 0, "padding": 1, "length": 10},
}


def loaded(kind, **more):
    module = Encoders({"text": Bert(9, CONFIG, pooler=True, **KINDS[kind], **more)})
    return Pretrained(module, initial(module), lambda texts: {}, kind)


def outputs(found, batch):
    return jax.jit(lambda v: predict(linen(found.module), v, batch))(found.variables)


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_tokens_before_the_text(kind):
    """Prompts with the embeddings of some tokens make of a text what these tokens before it make of it."""
    found = with_prompts(loaded(kind), 3)
    prompts = found.variables["params"]["encoders_text"]["prompts"]
    table = found.variables["params"]["encoders_text"]["tokens"]["embedding"]
    ids = [int(np.flatnonzero((table == p).all(1))[0]) for p in prompts]
    longer = {
        "text.ids": jnp.concatenate([jnp.broadcast_to(jnp.array(ids), (2, 3)), BATCH["text.ids"]], 1),
        "text.mask": jnp.pad(BATCH["text.mask"], ((0, 0), (3, 0)), constant_values=True),
        "text.types": jnp.pad(BATCH["text.types"], ((0, 0), (3, 0))),
        "example_id": BATCH["example_id"],
    }
    mine, theirs = outputs(found, BATCH), outputs(loaded(kind), longer)
    valid = np.asarray(BATCH["text.mask"])
    for i in range(3):
        a, b = mine[f"hidden.text.{i}"], np.roll(theirs[f"hidden.text.{i}"], -3, 1)
        np.testing.assert_allclose(a[:, 5:], b[:, 5:], 1e-5, 1e-5)
        np.testing.assert_allclose(a[:, :5][valid], b[:, :5][valid], 1e-5, 1e-5)
    np.testing.assert_array_equal(mine["tokens_mask.text"], np.pad(valid, ((0, 0), (0, 3))))
    tokens = mine["hidden.text.2"][:, :5]
    np.testing.assert_allclose(mine["features.text"][1], tokens[1, :3].mean(0), 1e-5, 1e-5)
    pooler = found.variables["params"]["encoders_text"]["pooler"]
    np.testing.assert_allclose(
        mine["pooled.text"], np.tanh(tokens[:, 0] @ pooler["kernel"] + pooler["bias"]), 1e-5, 1e-5
    )


@pytest.mark.parametrize("read", ["mean", "first"])
def test_heads_read_the_text_alone(read):
    module = Encoders({"text": Bert(9, CONFIG, length=8, prompts=2)}, {"logits": TaskHead(3, read)})
    variables = initial(module)
    made = jax.jit(lambda v: predict(linen(module), v, BATCH))(variables)
    x, mask = made["hidden.text.2"][:, :5], np.asarray(BATCH["text.mask"])[..., None]
    features = x[:, 0] if read == "first" else (x * mask).sum(1) / mask.sum(1)
    out = variables["params"]["heads_logits"]["out"]
    np.testing.assert_allclose(made["logits"], features @ out["kernel"] + out["bias"], 1e-4, 1e-4)


def modern():
    module = Encoders({"text": ModernBert(9, CONFIG, length=8)})
    return Pretrained(module, initial(module), None, "modernbert")


REFUSED = {
    "no positions": (lambda: with_prompts(loaded("bert"), 8), "count is 8, but this model has 8 position embeddings"),
    "a long text": (
        lambda: outputs(with_prompts(loaded("bert"), 4), BATCH),
        "texts have 5 tokens and there are 4 prompts, but this model has 8 position embeddings",
    ),
    "after the padding": (
        lambda: outputs(with_prompts(loaded("roberta"), 4), BATCH),
        "texts have 5 tokens and there are 4 prompts, but this model has 8 position embeddings",
    ),
    "another family": (lambda: with_prompts(modern(), 2), "ModernBert takes no prompts"),
    "twice": (lambda: with_prompts(with_prompts(loaded("bert"), 2), 2), "has 2 prompts already"),
    "none": (lambda: with_prompts(loaded("bert"), 0), "count is 0; expected a whole number, 1 or more"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_prompts_that_cannot_be_are_refused(case):
    make, said = REFUSED[case]
    with pytest.raises(UserError, match=said):
        make()


def test_a_folder_has_no_prompts(tmp_path):
    found = loaded("bert")
    save(tmp_path, "bert", found.module, found.variables)
    with pytest.raises(UserError, match="prompts=2: the folder has none: add them with pretrained.with_prompts"):
        load(tmp_path, prompts=2)
    prompted = with_prompts(found, 2)
    with pytest.raises(UserError, match="'bert' does not describe an encoder with prompts=2"):
        save(tmp_path, "bert", prompted.module, prompted.variables)
