"""What a student cannot take of a teacher is refused, by name."""

import pytest

from mmkd_jax.errors import UserError
from mmkd_jax.models import Bert, ClipText, Encoders, TransformerConfig, Vit
from mmkd_jax.pretrained.inheritance import Inheritance
from mmkd_jax.pretrained.origins import SubNetwork
from mmkd_jax.pretrained.selection import mlp_norms
from tests.pretrained.small_encoders import BIG, LENGTH, PICTURES, SMALL, WORDS, bert, clip, config, deit, drawn


def of(keep, fresh=(), big=BIG, **sizes):
    return Inheritance(bert(**SMALL | sizes), bert(**BIG | big), {"text": keep}, fresh)


def without_pooler():
    return Encoders({"text": Bert(WORDS, TransformerConfig(**SMALL), length=LENGTH)})


def clip_text():
    return Encoders({"text": ClipText(WORDS, config(**SMALL))})


def vit(num_prefix_tokens=1, **more):
    own = config(**SMALL, **more)
    return Encoders({"image": Vit(**PICTURES, config=own, num_prefix_tokens=num_prefix_tokens)})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: of(SubNetwork(layers=(0, 9))), "text: layers selects 9; the teacher has 2, 0 … 1"),
        (lambda: of(SubNetwork(layers=(0,))), "text: layers selects 1, the student has 2"),
        (lambda: of(SubNetwork(), num_layers=1), "text: the student has 1 layers, the teacher 2: select"),
        (lambda: of(SubNetwork(), num_heads=4), "num_heads=4 and embed_dim=8, but heads are inherited whole: its e"),
        (lambda: of(SubNetwork(), embed_dim=12), "num_heads=2 and embed_dim=12, but heads are"),
        (lambda: of(SubNetwork(heads=(0, 4))), "text: heads selects 4; the teacher has 4"),
        (lambda: of(SubNetwork(heads=(1, 1))), "text: heads selects the same index twice"),
        (lambda: of(SubNetwork(heads=((0, 1),))), "text: heads has 1 layers, the student 2"),
        (lambda: of(SubNetwork(embed_dim=range(7))), "text: embed_dim selects 7, the student has 8"),
        (lambda: of(SubNetwork(embed_dim=(-1, *range(7)))), "text: embed_dim selects -1; the teacher has 16"),
        (lambda: of(SubNetwork(mlp_dim=mlp_norms), mlp_dim=20), "text: mlp_dim selects 15; the teacher has 15"),
        (lambda: of(SubNetwork(heads=(0, 1), mlp_dim=range(6))), r"8 along embed_dim, the .* 16: s.*embed_dim=…"),
        (lambda: of(SubNetwork(embed_dim=range(8))), r"encoders_text/.*/layer_0/grow/bias has 6 along mlp_dim, the"),
        (lambda: of(SubNetwork(heads=(), mlp_dim=range(6))), "text: heads selects 0, the student has 2"),
        (lambda: of(SubNetwork(space=range(8)), **BIG), "keep selects text space, an axis that the inherited"),
        (lambda: of(SubNetwork(vocabulary=range(3))), "text: vocabulary selects 3, the student has 11"),
        (lambda: of(SubNetwork(), fresh=("encoders_text/head",), **BIG), "fresh names encoders_text/head, which"),
        (lambda: Inheritance(bert(**SMALL), deit(**SMALL)), "do not both have an encoder for text; both have"),
        (lambda: Inheritance(clip(**SMALL), bert(**SMALL)), "do not both have an encoder for image; both have"),
        (lambda: Inheritance(bert(**SMALL), without_pooler()), "no encoders_text/pooler/bias, .* fresh=.'encoders_"),
        (lambda: Inheritance(vit(2, layer_scale=True), vit(2)), "layer_0/scale_attention, .*layer_1/scale_out"),
        (lambda: Inheritance(vit(2), vit()), "positions has 8 along places, the inherited tensor 7: k"),
        (lambda: Inheritance(bert(**SMALL), clip_text()), "a Bert cannot inherit"),
        (lambda: Inheritance(vit(), vit(gated_mlp=True)), "grow/bias has 6 along mlp_dim, the inherited tensor 12"),
        (lambda: of(SubNetwork(), **BIG)(drawn(bert(**SMALL)), drawn(bert(**BIG))), r"student's .* have \[8\] at"),
        (lambda: of(SubNetwork(), **BIG)(drawn(bert(**BIG)), drawn(bert(**SMALL))), r"teacher's .* have \[8\] at"),
        (lambda: of(SubNetwork(), **BIG)({"params": {}}, drawn(bert(**BIG))), "student's variables lack params/"),
        (lambda: of(SubNetwork(), **BIG)(drawn(bert(**BIG)), {}), "variables have nothing at params/encoders_te"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(make, said):
    with pytest.raises(UserError, match=said):
        make()
