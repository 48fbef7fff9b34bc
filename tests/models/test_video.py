"""Video encoders: an image encoder on each frame is that encoder by itself, and videos that do not fit are named."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import pretrained
from mmkd_jax.core.model import StepContext, linen
from mmkd_jax.errors import UserError
from mmkd_jax.models import Encoders, ImageCNN, PerFrame, ResNet, Timesformer, TransformerConfig, Vit
from mmkd_jax.models.vit import interpolated
from tests.small import applied, equal

ROWS, TIMES = 3, 4
HALF = {"mean": (0.5,), "std": (0.5,)}
SMALL = TransformerConfig(embed_dim=8, num_layers=2, num_heads=2, mlp_dim=6)
NOISY = replace(SMALL, dropout=0.3, attention_dropout=0.2)
VIT = Vit((4, 6), (2, 3), channels=1, config=replace(NOISY, scan=True), **HALF)
VIVIT = Vit((4, 4, 6), (2, 2, 3), channels=1, config=SMALL, **HALF)
TIMESFORMER = Timesformer((4, 6), (2, 3), 4, 1, replace(SMALL, num_layers=1, eps=1e-6), **HALF)
MASK = np.array([[1, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
STILL = StepContext(0, jax.random.key(0), train=False)


def batch(**more):
    pixels = np.random.default_rng(0).integers(0, 256, (ROWS, TIMES, 4, 6, 1), dtype=np.uint8)
    made = {"video": pixels, "example_id": np.array([7, 8, 9], np.int32)}
    return {k: jnp.asarray(x) for k, x in (made | more).items()}


def started(module):
    """Variables whose every value is drawn; variances, which begin at 1, stay positive."""
    variables = jax.jit(lambda: pretrained.initial(module))()
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(4), len(leaves))
    drawn = [x + 0.3 * jax.random.uniform(k, x.shape, minval=-1) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, drawn)


def on_frames(image, **fields):
    """The encoder on each frame, with what it has as an encoder of images."""
    variables = started(Encoders({"image": image}))
    inside = {c: {"encoders_video": {"encoder": tree["encoders_image"]}} for c, tree in variables.items()}
    return linen(Encoders({"video": PerFrame(image, **fields)})), inside, linen(Encoders({"image": image})), variables


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("image", [VIT, ResNet(1, 4, (6,), (1,), **HALF)], ids=["vit", "resnet"])
def test_it_is_the_encoder_on_each_frame_and_a_pooling(image, pool):
    model, variables, alone, its = on_frames(image, pool=pool)
    found = jax.jit(lambda: model.apply(variables, batch(**{"video.mask": MASK}), STILL, {})[0])()
    single = jax.jit(lambda x: alone.apply(its, {"image": x, "example_id": batch()["example_id"]}, STILL, {})[0])
    outputs = [single(jnp.where(MASK[:, t, None, None, None], batch()["video"][:, t], 0)) for t in range(TIMES)]
    assert {n.replace("image", "video") for n in outputs[0]} | {"frames.video"} == found.keys()
    for name in outputs[0].keys() - {"features.image"}:
        expected = np.stack([o[name] for o in outputs], 1)
        np.testing.assert_allclose(found[name.replace("image", "video")], expected, atol=1e-5, err_msg=name)
    each = np.stack([o["features.image"] for o in outputs], 1)
    np.testing.assert_allclose(found["frames.video"], each, atol=1e-5)
    here = [[each[i, t] for t in range(TIMES) if MASK[i, t]] for i in range(ROWS)]
    expected = [np.zeros(each.shape[-1]) if not h else np.mean(h, 0) if pool == "mean" else np.max(h, 0) for h in here]
    np.testing.assert_allclose(found["features.video"], np.stack(expected), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["mean", "max", "attention"])
def test_frames_that_are_none_change_nothing(pool):
    model = linen(Encoders({"video": PerFrame(ImageCNN((3, 4)), pool)}))
    given = batch(**{"video.mask": MASK, "present.video": np.array([1, 1, 0], bool)})
    variables = jax.jit(model.init)(jax.random.key(0), given)

    @jax.jit
    def trained(value, more):
        shown = jnp.where(MASK[..., None, None, None], given["video"].astype(jnp.float32) / 255, value)
        shown = jnp.concatenate([shown, jnp.full((ROWS, more.shape[0], *shown.shape[2:]), value)], 1)
        mask = jnp.pad(MASK, ((0, 0), (0, more.shape[0])))

        def loss(params):
            seen = given | {"video": shown, "video.mask": mask}
            out, state = model.apply({**variables, "params": params}, seen, StepContext(0, jax.random.key(0)), {})
            return jnp.sum(out["features.video"] ** 2), (out["features.video"], state)

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    plain = trained(0.0, np.zeros(0))
    assert equal(trained(1e3, np.zeros(0)), plain) and equal(trained(jnp.nan, np.zeros(0)), plain)
    longer = trained(jnp.nan, np.zeros(2))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), longer, plain)
    (_, (features, state)), _ = plain
    assert not features[2].any() and features[1].any()
    assert jax.tree.structure(state["batch_stats"]) == jax.tree.structure(variables["batch_stats"])


SHORTER = [(VIVIT.clone(pool=pool), kept) for pool in ("first", "mean", "prefix", "probe") for kept in ([0, 1], [2, 3])]
SHORTER += [
    (TIMESFORMER.clone(attention=attention, pool=pool), kept)
    for attention in ("divided_space_time", "space_only", "joint_space_time")
    for pool, kept in (("first", [0, 1]), ("mean", [0, 2, 3]))
]


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "kept"), SHORTER)
def test_frames_that_are_none_are_those_of_a_shorter_video(encoder, kept):
    """The same as a model whose table of positions has those frames alone."""
    module, shown = Encoders({"video": encoder}), batch()["video"].astype(jnp.float32) / 255
    variables = started(module)
    mask = np.isin(np.arange(TIMES), kept)[None].repeat(ROWS, 0)
    mask[2] = True
    given = batch(video=jnp.where(mask[..., None, None, None], shown, jnp.nan), **{"video.mask": mask})
    own = dict(variables["params"]["encoders_video"])
    if isinstance(encoder, Vit):
        places = own["positions"][1:].reshape(2, 4, 8)[np.array(kept[::2]) // 2].reshape(-1, 8)
        own["positions"] = jnp.concatenate([own["positions"][:1], places])
        fewer = encoder.clone(size=(2, 4, 6))
    else:
        fewer = encoder.clone(frames=len(kept))
        own |= {"times": own["times"][np.array(kept)]} if "times" in own else {}

    def features(module, variables, given):
        return jax.jit(lambda: linen(module).apply(variables, given, STILL, {})[0]["features.video"])()

    found = features(module, variables, given)
    short = features(Encoders({"video": fewer}), {"params": {"encoders_video": own}}, batch(video=shown[:, kept]))
    np.testing.assert_allclose(found[:2], short[:2], atol=1e-5)
    whole = features(module, variables, batch(video=shown))
    np.testing.assert_allclose(found[2], whole[2], atol=1e-5)
    assert np.abs(found[:2] - whole[:2]).max() > 1e-3
    none = features(module, variables, given | {"video.mask": np.zeros((ROWS, TIMES), bool)})
    assert np.isfinite(none).all() and np.abs(none - none[:1]).max() < 1e-6


@pytest.mark.full
def test_a_patch_over_two_frames_is_there_with_one_of_them():
    module, variables = Encoders({"video": VIVIT}), started(Encoders({"video": VIVIT}))
    dark = batch()["video"].at[:, 1].set(0)
    mask = np.array([[1, 0, 1, 1]] * ROWS, bool)
    found, expected = (
        applied(linen(module), variables, batch(video=dark, **more), STILL)[0]["features.video"]
        for more in ({"video.mask": mask}, {})
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.full
def test_statistics_are_those_of_the_frames_that_count():
    image = ResNet(1, 4, (6,), (1,), **HALF)
    model, variables, alone, its = on_frames(image)
    valid = np.array([1, 0, 1], bool)
    _, moved = applied(
        model, variables, batch(**{"video.mask": MASK}), StepContext(0, jax.random.key(0), where=valid), {}
    )
    count = MASK & valid[:, None]
    pixels = {"image": batch()["video"][count], "example_id": jnp.arange(count.sum())}
    _, expected = applied(alone, its, pixels, StepContext(0, jax.random.key(0)))
    ours, theirs = moved["batch_stats"]["encoders_video"]["encoder"], expected["batch_stats"]["encoders_image"]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), ours, theirs)


@pytest.mark.slow
def test_a_patched_frame_reaches_the_features_and_one_of_another_shape_is_named():
    model, variables, _, _ = on_frames(VIT)
    plain = applied(model, variables, batch(), STILL)[0]
    for name in ("hidden.video.0", "attentions.video.1", "frames.video"):
        changed = plain[name].at[1, 2].set(jnp.linspace(0, 1, plain[name].shape[-1]))
        patched = applied(model, variables, batch(), STILL, {name: changed})[0]
        np.testing.assert_array_equal(patched[name], changed)
        moved = np.abs(patched["features.video"] - plain["features.video"]).max(1)
        assert moved[1] > 1e-4 and moved[[0, 2]].max() < 1e-5, name  # rounding: the layers are unrolled now
    for shape in (plain["hidden.video.0"].shape[:-1], (ROWS * TIMES, *plain["hidden.video.0"].shape[2:])):
        with pytest.raises(UserError, match=r"patch 'hidden.video.0' has shape"):
            model.apply(variables, batch(), STILL, {"hidden.video.0": jnp.zeros(shape)})


@pytest.mark.full
def test_dropout_differs_by_frame_and_belongs_to_the_example():
    model, variables, _, _ = on_frames(VIT)
    still = batch(video=np.full((ROWS, TIMES, 4, 6, 1), 90, np.uint8))

    def run(given):
        return applied(model, variables, given, StepContext(0, jax.random.key(1)))[0]["frames.video"]

    frames = run(still).reshape(ROWS * TIMES, -1)
    apart = np.abs(frames[:, None] - frames[None]).max(-1) + 1 * np.eye(ROWS * TIMES)
    assert apart.min() > 1e-4  # all show the same, and only the masks differ
    np.testing.assert_allclose(run({k: x[::-1] for k, x in still.items()})[::-1], run(still), atol=1e-6)
    fewer = run(still | {"video": still["video"][:, :2]})
    np.testing.assert_allclose(fewer, run(still)[:, :2], atol=1e-6)


def test_the_learned_pooling_begins_as_the_mean():
    mean, attention = (linen(Encoders({"video": PerFrame(ImageCNN((4,)), pool)})) for pool in ("mean", "attention"))
    given = batch(**{"video.mask": MASK})
    variables = attention.init(jax.random.key(0), given)
    found, expected = (applied(m, variables, given, STILL)[0]["features.video"] for m in (attention, mean))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    variables["params"]["encoders_video"]["score"]["kernel"] = 50 * jnp.eye(4, 1)  # all looks at the first feature
    out = applied(attention, variables, given, STILL)[0]
    most = np.where(MASK[0], out["frames.video"][0, :, 0], -1).argmax()
    assert out["weights.video"][0, most] > 0.5 and not out["weights.video"][0, 2]


@pytest.mark.full
def test_pretrained_image_weights_go_in_as_they_are(tmp_path):
    small = Encoders({"image": Vit((4, 6), (2, 3), config=replace(SMALL, eps=1e-6))})
    pretrained.save(tmp_path, "vit", small, pretrained.initial(small, jax.random.key(3)))
    image = pretrained.load(tmp_path)
    module = Encoders({"video": PerFrame(image.module.encoders["image"])})
    variables = {c: {"encoders_video": {"encoder": tree["encoders_image"]}} for c, tree in image.variables.items()}
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, pretrained.initial(module))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 4, 6, 3), dtype=np.uint8)
    rows = {"example_id": jnp.arange(2)}
    found = applied(linen(module), variables, rows | {"video": jnp.asarray(pixels)}, STILL)[0]
    alone = applied(linen(image.module), image.variables, rows | {"image": jnp.asarray(pixels[:, 0])}, STILL)[0]
    np.testing.assert_allclose(found["features.video"], alone["features.image"], atol=1e-6)


@pytest.mark.parametrize(
    ("encoder", "shape", "said"),
    [
        (VIVIT, (1, 4, 4, 6, 3), r"video: videos of shape \[1, 4, 4, 6, 3\]; expected \[b, t, h, w, 1\]"),
        (VIVIT, (1, 4, 6, 1), r"video: videos of shape \[1, 4, 6, 1\]; expected \[b, t, h, w, 1\]"),
        (VIVIT, (1, 6, 4, 6, 1), "video: videos of 6 frames; this model takes 4: sample them"),
        (VIVIT, (1, 4, 4, 7, 1), "video: videos of 4 frames of 4 × 7 px do not divide into patches of 2 × 2 × 3"),
        (TIMESFORMER, (1, 4, 4, 6, 3), r"expected \[b, t, h, w, 1\]"),
        (TIMESFORMER, (1, 4, 5, 6, 1), "images of 5 × 6 px do not divide into patches of 2 × 3"),
        (TIMESFORMER.clone(attention="time"), (1, 4, 4, 6, 1), "attention is 'time'; expected one of: divided_space"),
        (TIMESFORMER.clone(pool="last"), (1, 4, 4, 6, 1), "pool is 'last'; expected one of: first, mean"),
        (PerFrame(VIT), (1, 4, 6, 1), r"video: videos of shape \[1, 4, 6, 1\]; expected \[b, t, h, w, c\]"),
        (PerFrame(VIT), (1, 2, 4, 6, 3), r"video: images of shape \[2, 4, 6, 3\]; expected \[b, h, w, 1\]"),
        (PerFrame(VIT, "last"), (1, 2, 4, 6, 1), "pool is 'last'; expected one of: attention, max, mean"),
    ],
)
def test_videos_that_do_not_fit_are_named(encoder, shape, said):
    with pytest.raises(UserError, match=said):
        given = {"video": jnp.zeros(shape, jnp.uint8), "example_id": jnp.arange(1)}
        linen(Encoders({"video": encoder})).init(jax.random.key(0), given)


@pytest.mark.parametrize("encoder", [PerFrame(VIT), VIVIT, TIMESFORMER])
def test_a_mask_of_another_shape_is_named(encoder):
    with pytest.raises(UserError, match=r"video.mask has shape \[3, 2\]; expected \[3, 4\]"):
        linen(Encoders({"video": encoder})).init(jax.random.key(0), batch(**{"video.mask": MASK[:, :2]}))


def test_positions_of_larger_videos_are_interpolated_within_each_time():
    tables = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    both = interpolated(jnp.asarray(tables.reshape(12, 5)), (2, 2), (3, 4))
    each = [interpolated(jnp.asarray(table), (2, 2), (3, 4)) for table in tables]
    np.testing.assert_allclose(both, np.concatenate(each), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["divided_space_time", "space_only", "joint_space_time"])
def test_patches_dropout_and_mean_pooling_of_timesformer(attention):
    own = TIMESFORMER.clone(attention=attention, pool="mean", config=replace(NOISY, eps=1e-6))
    both = (own, own.clone(config=replace(own.config, scan=True, remat=True)))
    model, scanned = (linen(Encoders({"video": encoder})) for encoder in both)
    variables = started(Encoders({"video": own}))
    run = jax.jit(
        lambda m, given: m.apply(variables, given, StepContext(0, jax.random.key(1)), {})[0], static_argnums=0
    )
    plain = run(model, batch())
    other = run(scanned, {k: x[::-1] for k, x in batch().items()})
    assert plain.keys() == other.keys() and ("time_attentions.video.1" in plain) == (attention == "divided_space_time")
    for name, x in plain.items():
        np.testing.assert_allclose(other[name][::-1], x, atol=1e-5, err_msg=name)
    last = np.asarray(plain["tokens.video"])
    places = last[:, 1:] if last.ndim == 3 else last[:, :, 1:].reshape(ROWS, -1, last.shape[-1])
    np.testing.assert_allclose(plain["features.video"], places.mean(1), atol=1e-5)
    quiet = applied(model, variables, batch(), STILL)[0]
    patched = applied(
        scanned, variables, batch(), STILL, {"hidden.video.1": quiet["hidden.video.1"] + jnp.arange(8.0)}
    )[0]
    assert np.abs(patched["features.video"] - quiet["features.video"]).max() > 1e-3
    assert np.abs(plain["features.video"] - quiet["features.video"]).max() > 1e-3
