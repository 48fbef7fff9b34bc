"""One configuration of all Transformer encoders: what it refuses, and where its fields are."""

import dataclasses

import pytest

from mmkd_jax.errors import UserError
from mmkd_jax.models import (
    Ast,
    Bert,
    ClipText,
    Data2VecAudio,
    Deberta,
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
