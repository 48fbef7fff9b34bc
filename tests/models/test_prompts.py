"""Prompts in front of a text, at the first positions, and beside an image; all else is that of the input alone."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.core.model import StepContext, Taps, linen, predict
from mmkd_jax.errors import UserError
from mmkd_jax.models import Ast, Bert, Encoders, ModernBert, TaskHead, TransformerConfig, Vit, frozen_except
from mmkd_jax.nn.transformer import Layer, Transformer
from mmkd_jax.pretrained import Pretrained, initial, load, save, with_head, with_prompts
from tests.pretrained import small_encoders

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


IMAGES = {"image": np.random.default_rng(1).random((2, 4, 6, 3), np.float32), "example_id": np.arange(2)}
SMALL: dict[str, Any] = small_encoders.SMALL | {"num_layers": 1}
LARGE_HEAD = {"logits": TaskHead(3, "first_and_mean", num_prefix_tokens=4, tokens="tokens")}
PICTURES = {
    "dinov2": lambda: Encoders(small_encoders.dinov2_gated(**SMALL).encoders, LARGE_HEAD),
    "clip": lambda: alone(small_encoders.clip(**SMALL)),
    "vit": lambda: Encoders({"image": Vit((4, 6), (2, 2), config=TransformerConfig(**SMALL), pool="mean")}),
    "deit": lambda: small_encoders.deit(**SMALL),
    "siglip": lambda: alone(small_encoders.siglip(**SMALL)),
}


def alone(module):
    """The image encoder of a dual one."""
    return module.clone(encoders={"image": module.encoders["image"]}, scaled=False, biased=False)


KINDS_OF_TIER = [pytest.param(k, marks=[pytest.mark.full] * (k != "dinov2")) for k in PICTURES]


@pytest.mark.parametrize("kind", KINDS_OF_TIER)
def test_prompts_are_tokens_beside_the_patches(kind):
    """The layers see prompts as tokens without positions; features and heads are those of the other tokens."""
    module = PICTURES[kind]()
    base = Pretrained(module, initial(module), None, kind)
    found = with_prompts(base, 3)
    own = base.variables["params"]["encoders_image"]
    prompts = found.variables["params"]["encoders_image"]["prompts"]
    if kind == "clip":  # its first LayerNorm takes the prompts, too
        prompts = (prompts - prompts.mean(1, keepdims=True)) / np.sqrt(prompts.var(1, keepdims=True) + 1e-5)
        prompts = prompts * own["norm_embedded"]["scale"] + own["norm_embedded"]["bias"]

    @jax.jit
    def both(one, other):
        return predict(linen(found.module), one, IMAGES), predict(linen(module), other, IMAGES)

    @jax.jit
    def by_hand(variables, x):
        stack = Transformer(module.encoders["image"].config, partial(Layer, pre_norm=True))
        ctx = StepContext(jnp.int32(0), jax.random.key(0), train=False)
        last: Any = stack.apply({"params": own["transformer"]}, x, None, jnp.arange(2), "image", ctx, Taps({}))
        patch = {"hidden.image.1": last[:, : x.shape[1] - 3]}
        return last, predict(linen(module), variables, IMAGES, patch)

    mine, without = both(found.variables, base.variables)
    count = without["hidden.image.0"].shape[1]
    first = jnp.concatenate([without["hidden.image.0"], jnp.broadcast_to(prompts, (2, *prompts.shape))], 1)
    np.testing.assert_allclose(mine["hidden.image.0"], first, 1e-4, 1e-5)
    last, theirs = by_hand(base.variables, first)
    np.testing.assert_allclose(mine["hidden.image.1"], last, 1e-4, 1e-5)
    np.testing.assert_allclose(mine["tokens.image"][:, :count], theirs["tokens.image"], 1e-4, 1e-5)
    for name in [n for n in theirs if n.startswith(("features", "pooled", "embedding", "logits"))]:
        np.testing.assert_allclose(mine[name], theirs[name], 1e-4, 1e-5, err_msg=name)
    assert (mine["tokens_mask.image"] == (np.arange(count + 3) < count)).all()
    assert np.abs(np.asarray(mine["features.image"]) - without["features.image"]).max() > 1e-4


def vit():
    module = Encoders({"image": Vit((4, 6), (2, 2), config=TransformerConfig(**SMALL))})
    return Pretrained(module, initial(module), None, "vit")


def test_prompts_of_an_image_and_a_head_are_trained_alone():
    prompted = with_prompts(with_head(vit(), ("no", "yes")), 3)
    model = frozen_except(prompted.model, ("encoders_image.prompts", "heads_logits"))
    shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGES)["params"]
    trained = {jax.tree_util.keystr(p, simple=True, separator=".") for p, _ in jax.tree.leaves_with_path(shapes)}
    assert trained == {"encoders_image.prompts", "heads_logits.out.bias", "heads_logits.out.kernel"}
    prompts = prompted.variables["params"]["encoders_image"]["prompts"]
    assert prompts.dtype == np.float32 and 0.3 < np.abs(prompts).max() <= np.sqrt(6 / (3 * 2 * 2 + 8))


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
    "spectrograms": (
        lambda: with_prompts(Pretrained(Encoders({"audio": Ast()}), {}, None, "ast"), 2),
        "Ast takes no prompts",
    ),
    "an image twice": (lambda: with_prompts(with_prompts(vit(), 2), 2), "has 2 prompts already"),
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
    prompted = with_prompts(vit(), 2)
    for kind in ("vit", "clip_vision_model", "siglip_vision_model"):
        with pytest.raises(UserError, match=f"'{kind}' does not describe an encoder with .*prompts=2"):
            save(tmp_path, kind, prompted.module, prompted.variables)
