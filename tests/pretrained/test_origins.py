"""What a student cannot take of a teacher is refused, by name."""

import pytest

from mmkd_jax.errors import UserError
from mmkd_jax.models import Bert, ClipText, Encoders, Vit
from mmkd_jax.pretrained.inheritance import Inheritance
from mmkd_jax.pretrained.origins import Keep
from mmkd_jax.pretrained.selection import inner_norms
from tests.pretrained.small_encoders import BIG, LENGTH, PICTURES, SMALL, WORDS, bert, clip, deit, drawn


def of(keep, fresh=(), big=BIG, **sizes):
    return Inheritance(bert(**SMALL | sizes), bert(**BIG | big), {"text": keep}, fresh)


def without_pooler():
    return Encoders({"text": Bert(WORDS, **SMALL, length=LENGTH)})


def vit(**more):
    return Encoders({"image": Vit(**PICTURES, **SMALL, **more)})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: of(Keep(layers=(0, 9))), "text: layers 9 of the teacher's 2, which are 0 … 1"),
        (lambda: of(Keep(layers=(0,))), "text: layers names 1, the student has 2"),
        (lambda: of(Keep(), layers=1), "text: the student has 1 layers, the teacher 2: name them"),
        (lambda: of(Keep(), heads=4), "4 heads on a width of 8, but the teacher's heads are taken whole: its wi"),
        (lambda: of(Keep(), width=12), "2 heads on a width of 12, but the teacher's heads"),
        (lambda: of(Keep(heads=(0, 4))), "text: heads 4 of the teacher's 4"),
        (lambda: of(Keep(heads=(1, 1))), "text: heads names one of the teacher's twice"),
        (lambda: of(Keep(heads=((0, 1),))), "text: heads of 1 layers are named, the student has 2"),
        (lambda: of(Keep(width=range(7))), "text: width names 7, the student has 8"),
        (lambda: of(Keep(width=(-1, *range(7)))), "text: width -1 of the teacher's 16"),
        (lambda: of(Keep(inner=inner_norms), inner=20), "text: inner 15 of the teacher's 15"),
        (lambda: of(Keep(heads=(0, 1), inner=range(6))), r"has 8 along width, what it takes 16: name .*width=…"),
        (lambda: of(Keep(width=range(8))), r"encoders_text/transformer/layer_0/grow/bias has 6 along inner, what it t"),
        (lambda: of(Keep(heads=(), inner=range(6))), "text: heads names 0, the student has 2"),
        (lambda: of(Keep(space=range(8)), **BIG), "keep names text space, which nothing that is taken has"),
        (lambda: of(Keep(vocabulary=range(3))), "text: vocabulary names 3, the student has 11"),
        (lambda: of(Keep(), fresh=("encoders_text/head",), **BIG), "fresh names encoders_text/head, which the student"),
        (lambda: Inheritance(bert(**SMALL), deit(**SMALL)), "no encoder of text in student and teacher"),
        (lambda: Inheritance(clip(**SMALL), bert(**SMALL)), "no encoder of image in student and teacher"),
        (lambda: Inheritance(bert(**SMALL), without_pooler()), "no encoders_text/pooler/bias, .* fresh=.'encoders_"),
        (lambda: Inheritance(vit(scaled=True, extra=2), vit(extra=2)), "layer_0/scale_attention, .*layer_1/scale_out"),
        (lambda: Inheritance(vit(extra=2), vit()), "positions has 8 along places, what it takes 7: let it begin"),
        (lambda: Inheritance(bert(**SMALL), Encoders({"text": ClipText(WORDS, **SMALL)})), "a Bert cannot begin as"),
        (lambda: Inheritance(vit(), vit(gated=True)), "layer_0/grow/bias has 6 along inner, what it takes 12"),
        (lambda: of(Keep(), **BIG)(drawn(bert(**SMALL)), drawn(bert(**BIG))), r"own variables have \[8\] at"),
        (lambda: of(Keep(), **BIG)(drawn(bert(**BIG)), drawn(bert(**SMALL))), r"given variables have \[8\] at"),
        (lambda: of(Keep(), **BIG)({"params": {}}, drawn(bert(**BIG))), "own variables have no params/"),
        (lambda: of(Keep(), **BIG)(drawn(bert(**BIG)), {}), "given variables have nothing at params/encoders_text/"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(make, said):
    with pytest.raises(UserError, match=said):
        make()
