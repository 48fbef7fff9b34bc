"""One configuration of all Transformer encoders: what it refuses, and where its fields are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.core.model import StepContext, linen
from mmkd_jax.errors import UserError
from mmkd_jax.models import (
    Ast,
    Bert,
    ClipText,
    Data2VecAudio,
    Deberta,
    Encoders,
    FactorizedBert,
    ModernBert,
    MPNet,
    Timesformer,
    TransformerConfig,
    Vit,
    Wav2Vec2,
    WavLM,
    Whisper,
)
from mmkd_jax.pretrained import initial
from mmkd_jax.pretrained.attributes import attributes, replaced

SMALL = TransformerConfig(embed_dim=8, num_layers=1, num_heads=2, mlp_dim=6)
ENCODERS = (
    Ast,
    Bert,
    ClipText,
    Data2VecAudio,
    Deberta,
    FactorizedBert,
    ModernBert,
    MPNet,
    Timesformer,
    Vit,
    Wav2Vec2,
    WavLM,
    Whisper,
)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"embed_dim": 0}, "embed_dim is 0; expected a whole number, 1 or more"),
        ({"num_layers": True}, "num_layers is True; expected a whole number"),
        ({"mlp_dim": -6}, "mlp_dim is -6; expected a whole number"),
        ({"num_heads": 3}, "num_heads is 3; expected a divisor of embed_dim, 8"),
        ({"activation": "mish"}, "unknown activation 'mish'; expected one of: gelu, "),
        ({"eps": 0.0}, "eps is 0.0; expected a number above 0"),
        ({"dropout": 1.5}, "TransformerConfig: dropout is 1.5; expected a number from 0 to 1"),
        ({"attention_dropout": -0.1}, "attention_dropout is -0.1; expected a number from 0 to 1"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_by_name(changed, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SMALL, **changed)


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_name_is_either_of_the_encoder_or_of_its_config(kind):
    own = {f.name for f in dataclasses.fields(kind)}
    assert not own & {f.name for f in dataclasses.fields(TransformerConfig)}


def test_attributes_are_replaced_where_they_are():
    encoder = replaced(Bert(9, SMALL), pool="first", scan=True)
    assert encoder == Bert(9, dataclasses.replace(SMALL, scan=True), pool="first")
    assert attributes(encoder)["scan"] and attributes(encoder)["vocabulary"] == 9


@pytest.mark.full
def test_what_layers_are_told_of_positions_has_the_same_gradients_in_every_form():
    batch = {"text.ids": jnp.int32([[2, 3, 4, 5]]), "text.mask": jnp.ones((1, 4), bool), "example_id": jnp.arange(1)}
    config = dataclasses.replace(SMALL, num_layers=2)
    for encoder in (MPNet(9, config, length=6), FactorizedBert(9, config, 4, shared=True, length=6)):
        variables = initial(Encoders({"text": encoder}))

        def gradient(variables, encoder):
            model = linen(Encoders({"text": encoder}))

            def loss(variables):
                outputs, _ = model.apply(variables, batch, StepContext(0, jax.random.key(0), train=False), {})
                return jnp.sum(outputs["features.text"] ** 2 * jnp.arange(8.0)[None])

            return jax.jit(jax.grad(loss))(variables)

        plain, other = gradient(variables, encoder), gradient(variables, replaced(encoder, scan=True, remat=True))
        assert all(np.abs(x).max() > 0 for path, x in jax.tree.leaves_with_path(plain) if "relative" in str(path))
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), other, plain)
