"""Students that begin as parts of their teachers: what is taken is exact, and what is taken from where is said."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.errors import UserError
from mmkd_jax.models import Bert, ConvNext, EfficientNetLite, Encoders, ResNet, Swin, TransformerConfig, Vit
from mmkd_jax.pretrained import initial
from mmkd_jax.pretrained.inheritance import Inheritance
from mmkd_jax.pretrained.origins import SubNetwork
from mmkd_jax.pretrained.selection import head_norms, mlp_norms
from tests.pretrained.small_encoders import BIG, FAMILIES, LENGTH, SMALL, WORDS, bert, clip, drawn, run
from tests.small import equal

each_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.mark.full
@each_family
def test_all_of_a_teacher_is_the_teacher_bit_for_bit(family):
    module = family(**SMALL)
    variables = drawn(module)
    assert equal(Inheritance(module, module)(drawn(module, 1), variables), variables)
    layers, heads, inner = (range(SMALL[k]) for k in ("num_layers", "num_heads", "mlp_dim"))
    for told in (SubNetwork(layers, heads, inner, range(8)), SubNetwork(heads=head_norms, mlp_dim=mlp_norms)):
        same = Inheritance(module, module, dict.fromkeys(module.encoders, told))
        assert equal(same(drawn(module, 1), variables), variables)
    for line in Inheritance(module, module).describe():
        assert line.endswith("whole")


@pytest.mark.slow
@each_family
def test_chosen_layers_are_a_teacher_whose_other_layers_are_removed(family):
    big, small = family(**SMALL | {"num_layers": 3}), family(**SMALL)
    variables = drawn(big)
    whole = run(big, variables)  # layer 1 is removed: what it gives is what it was given
    removed = run(big, variables, {f"hidden.{m}.2": whole[f"hidden.{m}.1"] for m in big.encoders})
    inheritance = Inheritance(small, big, dict.fromkeys(big.encoders, SubNetwork(layers=(0, 2))))
    for name, x in run(small, inheritance(drawn(small, 1), variables)).items():
        kind, _, number = name.rpartition(".")
        if number.isdigit():
            name = f"{kind}.{(0, 1, 3)[int(number)] if kind.startswith('hidden') else 2 * int(number)}"
        np.testing.assert_allclose(x, removed[name], atol=1e-6, err_msg=name)
    assert min(np.abs(whole[f"features.{m}"] - removed[f"features.{m}"]).max() for m in big.encoders) > 0.05


# where the student's channels, heads and inner units lie in a teacher of twice the width
WIDTH = (1, 2, 4, 7, 8, 11, 12, 15)
COPIES = np.array([3, 0, 1, 6, 2, 7, 0, 3, 4, 5, 2, 5, 6, 1, 4, 7])  # each channel of the teacher is one of the student
HEADS, INNER = ((0, 3), (1, 2)), ((0, 2, 3, 9, 10, 14), (1, 2, 3, 4, 5, 6))
assert [COPIES[i] for i in WIDTH] == list(range(8))


def grown(family, variables, big):
    """A teacher that computes what the student does, on twice the channels, with heads and units that add nothing.

    Each channel is there twice, so that no LayerNorm sees a difference; only one of the two is read. What the further
    heads and units compute is noise, which is not read.
    """
    draw = np.random.default_rng(5)

    def one(path, shape):
        names = [k.key for k in path]
        module, leaf = names[-2], names[-1]
        x = variables
        for n in names:
            x = x[n]
        found = draw.normal(size=shape.shape).astype(np.float32)
        probe = "probe" in names
        layer = 0 if probe else next((int(n[6:]) for n in names if n.startswith("layer_")), 0)
        heads = [c for h in HEADS[layer] for c in range(4 * h, 4 * h + 4)]
        inner = [*INNER[layer]]
        if module == "grow" and shape.shape[-1] == 2 * BIG["mlp_dim"]:
            inner += [BIG["mlp_dim"] + i for i in inner]
        if leaf in ("kernel", "bias") and (module in ("query", "key", "value") or module == "probe"):
            columns = [16 * b + c for b in range(3 if module == "probe" else 1) for c in heads]
        elif module == "grow":
            columns = inner
        elif module.startswith("projection") or (module == "pooler" and x.shape[-1] == 3) or x.ndim == 0:
            columns = None
        else:  # all others write channels
            columns, found, x = None, np.zeros_like(found), x[..., COPIES]
        rows = {"out": heads, "shrink": inner}.get(module)
        read = ("query", "key", "value", "grow", "pooler", "head", "probe", "projection_text", "projection_image")
        if leaf == "kernel" and module in read:
            rows = WIDTH
        if leaf == "kernel" and rows is not None:  # what is not read has weight 0
            wide = np.zeros(shape.shape, np.float32)
            wide[np.ix_(rows, range(shape.shape[1]) if columns is None else columns)] = x
            others = [] if columns is None else [c for c in range(shape.shape[1]) if c not in columns]
            wide[np.ix_(WIDTH if others else [], others)] = found[np.ix_(WIDTH if others else [], others)]
            return wide
        if columns is not None:
            found[..., columns] = x
            return found
        return x

    return jax.tree_util.tree_map_with_path(one, jax.eval_shape(lambda: initial(big)))


@pytest.mark.slow
@each_family
def test_a_student_equals_its_teacher_where_nothing_that_is_left_out_is_read(family):
    big, small = family(**BIG), family(**SMALL)
    expected = drawn(small)
    teacher = grown(family, expected, big)
    probe = any(getattr(e, "pool", None) == "probe" for e in small.encoders.values())

    def keep(modality, heads, inner):
        more = modality == "image" and probe
        own = [x if callable(x) else x + x[:1] * more for x in (heads, inner)]
        return SubNetwork(
            heads=own[0], mlp_dim=own[1], embed_dim=WIDTH, space=WIDTH if modality == "text" and probe else None
        )

    for heads, inner in ((HEADS, INNER), (head_norms, mlp_norms)):
        told = Inheritance(small, big, {m: keep(m, heads, inner) for m in small.encoders})
        assert equal(told(drawn(small, 1), teacher), expected)
    ours, theirs = run(small, expected), run(big, teacher)
    assert ours.keys() == theirs.keys()
    for name, x in ours.items():
        kind, y = name.partition(".")[0], np.asarray(theirs[name])
        if kind in ("scores", "attentions"):
            y = y[:, HEADS[int(name[-1])], :, :]
        elif kind in ("queries", "keys", "values"):
            y = y[..., [c for h in HEADS[int(name[-1])] for c in range(4 * h, 4 * h + 4)]]
        elif y.ndim and y.shape[-1] == 16:
            y = y[..., WIDTH]
        np.testing.assert_allclose(x, y, atol=2e-5 * max(1, np.abs(x).max()), err_msg=name)


def test_a_vocabulary_and_further_positions_of_its_own():
    own = TransformerConfig(**SMALL)
    big = Encoders({"text": Bert(WORDS, own, LENGTH, types=0, pooler=True)})
    small = Encoders({"text": Bert(4, dataclasses.replace(own, num_layers=1), LENGTH + 2, types=0)})
    own, given = drawn(small, 1), drawn(big)
    keep = SubNetwork(layers=(1,), vocabulary=(0, 7, -1, 3), positions=(*range(LENGTH), -1, -1))
    told = Inheritance(small, big, {"text": keep})
    found = told(own, given)["params"]["encoders_text"]
    mine, its = own["params"]["encoders_text"], given["params"]["encoders_text"]
    tokens, places = found["tokens"]["embedding"], found["positions"]["embedding"]
    np.testing.assert_array_equal(tokens[np.array([0, 1, 3])], its["tokens"]["embedding"][[0, 7, 3]])
    np.testing.assert_array_equal(tokens[2], mine["tokens"]["embedding"][2])
    np.testing.assert_array_equal(places[:LENGTH], its["positions"]["embedding"])
    np.testing.assert_array_equal(places[LENGTH:], mine["positions"]["embedding"][LENGTH:])
    assert told.describe() == [
        "text layer_0 <- layer_1, whole",
        "text norm <- the same, whole",
        "text positions <- the same, positions 0…4 of 5, 2 freshly initialized",
        "text tokens <- the same, vocabulary 0 7 3 of 11, 1 freshly initialized",
        "text left to the teacher: pooler, layer_0",
    ]
    fresh = Inheritance(
        small, big, {"text": SubNetwork(layers=(1,))}, ("encoders_text/tokens", "encoders_text/positions")
    )
    assert equal(fresh(own, given)["params"]["encoders_text"]["tokens"], mine["tokens"])
    assert "text freshly initialized: positions, tokens" in fresh.describe()


def test_what_is_taken_from_where_is_said():
    own = TransformerConfig(**SMALL, eps=0.1)
    small = Encoders({"text": bert(**SMALL).encoders["text"].clone(types=0, config=own)})
    big = bert(**BIG | {"num_layers": 3})
    keep = SubNetwork((1, 2), [(0, 2), (1, 3)], mlp_norms, (*range(4), 9, 10, 12, 15))
    width = "embed_dim 0…3 9 10 12 15 of 16"
    assert Inheritance(small, big, {"text": keep}).describe() == [
        f"text layer_0 <- layer_1, heads 0 2 of 4, mlp_dim 6 of 15 by mlp_norms, {width}",
        f"text layer_1 <- layer_2, heads 1 3 of 4, mlp_dim 6 of 15 by mlp_norms, {width}",
        f"text norm, pooler, positions, tokens <- the same, {width}",
        "text left to the teacher: layer_0, types",
        "text eps is 0.1, the teacher's 1e-05",
    ]


def test_one_tower_of_two_and_what_stands_above_it():
    big = clip(**SMALL)
    small, given = Encoders({"text": big.encoders["text"]}), drawn(big)
    head = {"Classifier_0": {"kernel": np.ones((8, 3), np.float32)}}
    found = Inheritance(small, big)({"params": drawn(small, 1)["params"] | head}, given)
    assert equal(found, {"params": {"encoders_text": given["params"]["encoders_text"]} | head})


@pytest.mark.parametrize("kind", [ResNet, ConvNext])
def test_blocks_of_each_stage(kind):
    big, small = (Encoders({"image": kind(1, 2, (8, 12), d, mean=(0.5,), std=(0.5,))}) for d in ((3, 2), (2, 1)))
    own, given = drawn(small, 1), drawn(big)
    found = Inheritance(small, big, {"image": SubNetwork(layers=((0, 2), (0,)))})(own, given)
    assert found.keys() == own.keys()
    for collection, tree in found.items():
        its = given[collection]["encoders_image"]
        for name, x in tree["encoders_image"].items():
            assert equal(x, its[name.replace("block_0_1", "block_0_2")]), name
    with pytest.raises(UserError, match=r"image: ConvNext has no heads|ResNet has no heads"):
        Inheritance(small, big, {"image": SubNetwork(layers=((0, 2), (0,)), heads=(0,))})
    with pytest.raises(UserError, match=r"image: layers=\(0, 2\); expected a sequence of blocks for each of 2 stages"):
        Inheritance(small, big, {"image": SubNetwork(layers=(0, 2))})
    with pytest.raises(UserError, match="image: layers of stage 0 selects 3; the teacher has 3"):
        Inheritance(small, big, {"image": SubNetwork(layers=((0, 3), (0,)))})


def test_layers_of_each_stage_of_swin():
    sizes: dict[str, Any] = {"size": (8, 8), "patch": (2, 2), "embed_dim": 4, "heads": (1, 2), "window": 2}
    big, small = (Encoders({"image": Swin(**sizes, depths=d)}) for d in ((3, 2), (2, 1)))
    own, given = drawn(small, 1), drawn(big)
    inheritance = Inheritance(small, big, {"image": SubNetwork(layers=((0, 2), (1,)))})
    found, its = inheritance(own, given)["params"]["encoders_image"], given["params"]["encoders_image"]
    assert equal(found["stage_0"], {"layer_0": its["stage_0"]["layer_0"], "layer_1": its["stage_0"]["layer_2"]})
    assert equal(found["stage_1"], {"layer_0": its["stage_1"]["layer_1"]})
    assert equal(
        {k: x for k, x in found.items() if "stage" not in k}, {k: x for k, x in its.items() if "stage" not in k}
    )
    other = Encoders({"image": Swin(**sizes | {"heads": (2, 2)}, depths=(3, 2))})
    with pytest.raises(UserError, match=r"image: the student has heads \(1, 2\); expected the teacher's, \(2, 2\)"):
        Inheritance(small, other)


def test_an_encoder_that_the_table_does_not_know_is_taken_whole():
    module = Encoders({"image": EfficientNetLite()})
    shapes = jax.eval_shape(lambda: initial(module))
    assert jax.eval_shape(Inheritance(module, module), shapes, shapes) == shapes
    with pytest.raises(UserError, match="image: EfficientNetLite has no embed_dim to select"):
        Inheritance(module, module, {"image": SubNetwork(embed_dim=(0,))})


def test_a_student_learns_from_there():
    big, small = bert(**BIG), bert(**SMALL)
    told = Inheritance(small, big, {"text": SubNetwork(heads=head_norms, mlp_dim=mlp_norms, embed_dim=range(8))})
    variables, target = jax.jit(told)(drawn(small, 1), drawn(big)), run(big, drawn(big))["pooled.text"][:, ::2]
    step = jax.jit(jax.value_and_grad(lambda v: jnp.mean((run(small, v)["pooled.text"] - target) ** 2)))
    losses = []
    for _ in range(30):
        loss, gradient = step(variables)
        losses.append(float(loss))
        silent = {jax.tree_util.keystr(p) for p, g in jax.tree.leaves_with_path(gradient) if not np.abs(g).max() > 0}
        assert not silent
        variables = jax.tree.map(lambda v, g: v - 0.1 * g, variables, gradient)
    assert losses[-1] < 0.3 * losses[0]


def test_the_patches_of_a_video_have_an_axis_that_the_table_does_not_know():
    def vivit(*sizes):
        return Encoders({"video": Vit((2, 4, 4), (2, 2, 2), config=TransformerConfig(*sizes, mlp_dim=6))})

    big, small = vivit(8, 3, 2), vivit(8, 1, 2)
    given = drawn(big)
    found = Inheritance(small, big, {"video": SubNetwork(layers=(2,))})(drawn(small, 1), given)["params"][
        "encoders_video"
    ]
    given = given["params"]["encoders_video"]
    assert equal(found["kernel"], given["kernel"])
    assert equal(found["transformer"], {"layer_0": given["transformer"]["layer_2"]})
    with pytest.raises(UserError, match="encoders_video/kernel: its channel and head axes are unknown"):
        Inheritance(vivit(4, 3, 1), big, {"video": SubNetwork(heads=(0,), embed_dim=range(4))})
