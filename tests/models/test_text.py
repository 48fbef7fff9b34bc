import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from mmkd_jax.core.model import StepContext, Taps, linen
from mmkd_jax.models import Multimodal, TextBag, TextLSTM, TextTransformer
from mmkd_jax.nn.recurrent import lstm

CTX = StepContext(0, jax.random.key(0), train=False)


def texts(rows=3, length=5):
    draw = np.random.default_rng(1)
    mask = np.arange(length)[None] < np.array([5, 2, 0])[:rows, None]
    ids = draw.integers(1, 9, (rows, length)).astype(np.int32)
    return {"text.ids": jnp.asarray(ids), "text.mask": jnp.asarray(mask), "example_id": jnp.arange(rows)}


def features(module, variables, batch):
    return jax.jit(lambda v, b: module.apply(v, b, "text", CTX, Taps({})))(variables, batch)


def started(module, batch):
    return jax.jit(lambda key: module.init(key, batch, "text", CTX, Taps({})))(jax.random.key(0))


def test_lstm_is_the_formula():
    module, batch = TextLSTM(9, 4), texts()
    variables = started(module, batch)
    p = jax.tree.map(np.float64, variables["params"])

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    expected = np.zeros((3, 4))
    for row in range(3):
        c, h = np.zeros(4), np.zeros(4)
        for token, here in zip(batch["text.ids"][row], batch["text.mask"][row], strict=True):
            if not here:
                continue
            x = p["Embed_0"]["embedding"][int(token)]
            gates = x @ p["inward"]["kernel"] + p["inward"]["bias"] + h @ p["recurrent"]
            i, f, g, o = np.split(gates, 4)
            c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        expected[row] = h
    np.testing.assert_allclose(features(module, variables, batch), expected, atol=1e-6)


def test_an_lstm_in_bfloat16_does_not_forget_what_is_small():
    """Its cell adds up a thousand small things: rounded at each step, it would stand still."""
    inward = jnp.full((1, 1_000, 4), 9.0).at[..., 2].set(1e-3)  # keeps all, and adds tanh(.001) at each step
    recurrent, mask = jnp.zeros((1, 4)), jnp.ones((1, 1_000), bool)
    fine = lstm(inward, recurrent, mask, forget=9.0)[0, -1]
    rough = lstm(inward.astype(jnp.bfloat16), recurrent.astype(jnp.bfloat16), mask, forget=9.0)[0, -1]
    assert rough.dtype == jnp.bfloat16 and fine > 0.7
    np.testing.assert_allclose(rough.astype(jnp.float32), fine, rtol=1e-2)


def test_a_bag_is_the_mean_of_the_words_there_are():
    module, batch = TextBag(9, 4), texts()
    variables = started(module, batch)
    table, ids = np.asarray(variables["params"]["Embed_0"]["embedding"]), np.asarray(batch["text.ids"])
    expected = [table[ids[0]].mean(0), table[ids[1, :2]].mean(0), np.zeros(4)]
    np.testing.assert_allclose(features(module, variables, batch), expected, atol=1e-6)


def test_transformer_padding_equals_the_shorter_text():
    module, batch = TextTransformer(9, 4, num_heads=2, num_layers=2, length=5), texts()
    variables = started(module, batch)
    short = {k: v[1:2, :2] if v.ndim == 2 else v[1:2] for k, v in batch.items()}
    np.testing.assert_allclose(features(module, variables, batch)[1:2], features(module, variables, short), atol=1e-6)


@pytest.mark.slow
def test_a_row_without_tokens_is_finite_in_value_and_gradient():
    for module in (TextTransformer(9, 4, num_heads=2, num_layers=1, length=5), TextLSTM(9, 4), TextBag(9, 4)):
        batch = texts()
        variables = started(module, batch)
        loss = jax.jit(lambda v, module=module, batch=batch: jnp.sum(features(module, v, batch) ** 2))
        value, gradient = jax.value_and_grad(loss)(variables)
        assert np.isfinite(value) and all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
        np.testing.assert_array_equal(features(module, variables, batch)[2], 0)


def test_lstm_exports_with_a_symbolic_batch():
    model, batch = linen(Multimodal({"text": TextLSTM(9, 4)}, 3, 4)), texts()
    variables = jax.jit(model.init)(jax.random.key(0), batch)

    def logits(batch):
        return {"logits": model.apply(variables, batch, CTX, {})[0]["logits"]}

    (b,) = export.symbolic_shape("b")
    shapes = {k: jax.ShapeDtypeStruct((b, *v.shape[1:]), v.dtype) for k, v in batch.items()}
    blob = export.export(jax.jit(logits))(shapes).serialize()
    other = texts(rows=2)
    np.testing.assert_allclose(
        export.deserialize(bytearray(blob)).call(other)["logits"], logits(other)["logits"], atol=1e-6
    )
