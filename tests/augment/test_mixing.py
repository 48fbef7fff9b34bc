import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmkd_jax import losses
from mmkd_jax.augment import Compose, MixLabels, images, mix_embeddings, mixing
from mmkd_jax.augment.embeddings import shares
from mmkd_jax.augment.rows import SHARES, draw_share
from mmkd_jax.core.model import StepContext, linen
from mmkd_jax.errors import UserError
from mmkd_jax.models import Multimodal, TextTransformer
from tests.augment.cases import CONTEXT, rows, take
from tests.small import on_device

N = 400
KEYS = jax.random.split(jax.random.key(11), N)


def pairs(n=N, **more):
    """White pictures whose partners are black, of class 0 and 1."""
    batch = {
        "image": np.full((n, 8, 8, 1), 255, np.uint8),
        "partner.image": np.zeros((n, 8, 8, 1), np.uint8),
        "label": np.zeros(n, np.int32),
        "partner.label": np.ones(n, np.int32),
        "example_id": np.arange(n, dtype=np.int32),
        "view_index": np.zeros(n, np.int32),
    }
    return batch | more


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4])
def test_shares_are_beta(alpha):
    drawn = np.asarray(jax.jit(jax.vmap(lambda k: draw_share(k, alpha)))(jax.random.split(jax.random.key(0), 20_000)))
    assert drawn.min() >= 0 and drawn.max() <= SHARES
    share = drawn / SHARES
    assert share.mean() == pytest.approx(0.5, abs=0.01) and share.var() == pytest.approx(
        0.25 / (2 * alpha + 1), rel=0.05
    )
    for q in (0.1, 0.3, 0.7):
        assert np.mean(share < q) == pytest.approx(stats.beta(alpha, alpha).cdf(q), abs=0.015)


def test_mixup_mixes_pixels_and_labels_by_one_weight(strict):
    out = jax.jit(mixing.Mixup(0.5, classes=3))(pairs(), KEYS)
    weight = np.asarray(out["label"])[:, 0]
    np.testing.assert_allclose(
        out["image"], np.broadcast_to(weight[:, None, None, None], out["image"].shape), atol=1e-7
    )
    np.testing.assert_array_equal(out["label"][:, 1], 1 - weight)
    assert out["label"].shape == (N, 3) and out["label"].dtype == jnp.float32 and weight.std() > 0.2
    np.testing.assert_array_equal(jax.jit(mixing.Mixup(0.5))(pairs(), KEYS)["label"], 0)  # left alone without classes
    values = jax.jit(losses.cross_entropy)(np.full((N, 3), np.log(1 / 3), np.float32), out["label"])
    np.testing.assert_allclose(values, np.log(3), rtol=1e-5)


def test_mixup_of_floats_is_the_formula(strict):
    draw = np.random.default_rng(0)
    x, y = (np.float32(draw.normal(size=(N, 5))) for _ in range(2))
    out = jax.jit(mixing.Mixup(1.0, ("x",), classes=2))(pairs(x=x, **{"partner.x": y}), KEYS)
    weight = np.asarray(out["label"], np.float64)[:, :1]
    np.testing.assert_allclose(out["x"], weight * np.float64(x) + (1 - weight) * np.float64(y), rtol=1e-6, atol=1e-7)


def test_unlabelled_rows_and_partners(strict):
    told = {"labelled": np.arange(N) % 2 == 0, "partner.labelled": np.arange(N) % 3 == 0}
    out = jax.jit(mixing.Mixup(1.0, classes=2))(pairs(**told), KEYS)
    mixed = np.asarray(out["label"])[:, 0] < 1
    np.testing.assert_array_equal(out["labelled"][mixed], (told["labelled"] & told["partner.labelled"])[mixed])
    np.testing.assert_array_equal(out["labelled"][~mixed], told["labelled"][~mixed])
    unmixed = jax.jit(mixing.MixGen(0.0, classes=2))(pairs(**told) | text(N), KEYS)
    np.testing.assert_array_equal(unmixed["labelled"], told["labelled"])
    assert not bool(jax.jit(mixing.Mixup(1.0))(pairs(), KEYS).get("labelled", False))


def test_rows_are_mixed_only_with_the_same_modalities(strict):
    here, there = np.arange(N) % 2 == 0, np.arange(N) % 3 == 0
    sound = {
        "audio": np.ones((N, 2), np.float32),
        "partner.audio": np.full((N, 2), np.nan, np.float32),
        "present.audio": here,
    }
    batch = pairs(**sound, **{"partner.present.audio": there})
    out = jax.jit(mixing.Mixup(1.0, ("image", "audio"), classes=2))(batch, KEYS)
    weight, alike = np.asarray(out["label"])[:, 0], np.asarray(here == there)
    assert (weight[~alike] == 1).all() and (weight[alike] < 1).mean() > 0.9
    assert (np.asarray(out["audio"])[~alike] == 1).all() and (np.asarray(out["image"])[~alike] == 1).all()
    alone = jax.jit(mixing.Mixup(1.0, classes=2))(batch, KEYS)  # the image needs no sound
    assert (np.asarray(alone["label"])[:, 0] < 1).mean() > 0.9


def test_paired_mixup_has_one_weight_and_unites_masks(strict):
    n = 3
    batch = pairs(n) | {
        "audio": np.ones((n, 4, 2), np.float32), "audio.mask": np.array([[1, 1, 0, 0]] * n, bool),
        "partner.audio": np.full((n, 4, 2), 2, np.float32), "partner.audio.mask": np.array([[1, 1, 1, 0]] * n, bool),
    }  # fmt: skip
    out = jax.jit(mixing.Mixup(1.0, ("image", "audio"), classes=2))(batch, KEYS[:n])
    w = np.asarray(out["label"])[:, 0]
    np.testing.assert_allclose(out["image"][:, 0, 0, 0], w, atol=1e-7)
    np.testing.assert_allclose(
        out["audio"][:, :, 0], np.stack([2 - w, 2 - w, 2 * (1 - w), np.zeros_like(w)], 1), rtol=1e-6
    )
    assert out["audio.mask"].tolist() == [[True, True, True, False]] * n


def test_cutmix_labels_are_areas(strict):
    out = jax.jit(mixing.CutMix(1.0, classes=2))(pairs(), KEYS)
    white = (np.asarray(out["image"]) == 255).mean((1, 2, 3))
    np.testing.assert_allclose(out["label"][:, 0], white, atol=1e-6)
    assert out["image"].dtype == jnp.uint8 and 0.5 < white.mean() < 0.8 and white.min() < 0.2
    for picture in np.asarray(out["image"])[:50, :, :, 0]:
        rows, columns = np.nonzero(picture == 0)
        if len(rows):
            assert len(rows) == np.ptp(rows) * np.ptp(columns) + np.ptp(rows) + np.ptp(columns) + 1  # one box


def text(n, own=(1, 5, 6, 2, 0, 0), other=(1, 7, 2, 0, 0, 0)):
    batch = {f"{s}text.ids": np.tile(np.array([i], np.int32), (n, 1)) for s, i in (("", own), ("partner.", other))}
    return batch | {k.replace("ids", "mask"): v > 0 for k, v in batch.items()}


def test_mixgen_joins_texts_and_averages_pictures(strict):
    out = jax.jit(mixing.MixGen(1.0, skip=(1,), classes=2))(pairs(2) | text(2), KEYS[:2])
    assert out["text.ids"].tolist() == [[1, 5, 6, 2, 7, 2]] * 2 and bool(out["text.mask"].all())
    np.testing.assert_array_equal(out["image"], 0.5)
    np.testing.assert_array_equal(out["label"], 0.5)
    cut = jax.jit(mixing.MixGen(1.0))(pairs(1) | text(1, other=(1, 7, 8, 9, 2, 0)), KEYS[:1])
    assert cut["text.ids"].tolist() == [[1, 5, 6, 2, 1, 7]]
    short = jax.jit(mixing.MixGen(1.0))(pairs(1) | text(1, own=(5, 0, 0, 0, 0, 0), other=(7, 0, 0, 0, 0, 0)), KEYS[:1])
    assert short["text.ids"].tolist() == [[5, 7, 0, 0, 0, 0]] and int(short["text.mask"].sum()) == 2
    some = jax.jit(mixing.MixGen(0.25))(pairs() | text(N), KEYS)
    joined = np.asarray(some["image"])[:, 0, 0, 0] == 0.5
    assert joined.mean() == pytest.approx(0.25, abs=0.07)
    np.testing.assert_array_equal(some["text.ids"][~joined], pairs() and text(N)["text.ids"][~joined])


def test_the_partner_goes_through_the_steps_before_with_draws_of_its_own(strict):
    """Rows of their number, cropped to one pixel's shift: the mixture of two shifts that are drawn apart."""
    ramp = np.tile(np.arange(1, 10, dtype=np.float32)[None, None, :, None], (N, 1, 1, 1))
    chain = Compose((images.RandomCrop(2, mode="edge"), mixing.Mixup(1e6)))  # λ is about a half
    out = jax.jit(lambda batch: chain(batch, CONTEXT))(pairs() | {"image": ramp, "partner.image": ramp})
    shift = 2 * (np.asarray(out["image"])[:, 0, 4, 0] - 5)
    assert set(np.round(shift)) == set(range(-4, 5))  # the sum of two
    assert np.abs(np.asarray(out["partner.image"])[:, 0, 4, 0] - 5).max() == 2


READER = TextTransformer(30, embed_dim=8, num_heads=2, num_layers=1, length=7)
TEXTS = linen(Multimodal({"text": READER}, classes=3, width=8))


def run(model, variables, batch, patch=None, train=True):
    """The model's outputs, as one program."""
    ctx = CONTEXT._replace(train=train)
    return jax.jit(lambda v, b, p: model.apply(v, b, ctx, p)[0])(variables, batch, patch or {})


def texts():
    batch = on_device(rows())
    batch = {k: v for k, v in batch.items() if "text" in k or k.split(".")[-1] in ("example_id", "view_index", "label")}
    batch["partner.present.text"] = jnp.arange(8) != 2
    return batch, jax.jit(TEXTS.init)(jax.random.key(1), batch)


@pytest.mark.slow
def test_embeddings_are_mixed_and_the_model_goes_on(strict):
    batch, variables = texts()
    at, other = "hidden.text.0", {k.removeprefix("partner."): v for k, v in batch.items() if k.startswith("partner.")}
    mixed = run(mix_embeddings(TEXTS, at, seed=4), variables, batch)
    own = jax.device_get(run(TEXTS, variables, batch))
    partner = jax.device_get(run(TEXTS, variables, other | {"view_index": batch["view_index"]}))
    batch, other = jax.device_get((batch, other))
    w = np.asarray(jax.jit(lambda batch: shares(batch, 1.0, 4, "text"))(batch))
    assert float(w[2]) == 1 and float(w[0]) < 1  # row 2's partner lacks a text
    blend = [
        w[i] * own[at][i] * batch["text.mask"][i, :, None].astype(np.float32)
        + (1 - w[i]) * partner[at][i] * other["text.mask"][i, :, None].astype(np.float32)
        for i in range(8)
    ]
    blend[2] = own[at][2]
    np.testing.assert_allclose(mixed[at], np.stack(blend), atol=1e-6)
    joined = batch["text.mask"] | (other["text.mask"] & (w < 1)[:, None])
    want = run(TEXTS, variables, batch | {"text.mask": joined}, {at: np.stack(blend)})
    np.testing.assert_allclose(mixed["logits"], want["logits"], atol=1e-5)
    np.testing.assert_allclose(mixed["logits"][2], own["logits"][2], atol=1e-5)
    assert np.abs(mixed["logits"] - own["logits"]).max() > 1e-2
    mixing_labels = Compose((MixLabels(3, seed=4, modality="text"),), seed=8)
    labels = jax.jit(lambda batch: mixing_labels(batch, CONTEXT)["label"])(batch)
    onehot = np.eye(3)[batch["label"]] * w[:, None] + np.eye(3)[other["label"]] * (1 - w[:, None])
    np.testing.assert_allclose(labels, onehot, atol=1e-6)


@pytest.mark.full
def test_teacher_and_student_mix_alike_and_evaluation_does_not(strict):
    batch, variables = texts()
    student = mix_embeddings(TEXTS, "features.text")
    train, frozen = (jax.device_get(run(student, variables, batch, train=t)) for t in (True, False))
    np.testing.assert_array_equal(train["logits"], frozen["logits"])
    plain = {k: v for k, v in batch.items() if not k.startswith("partner.")}
    scores = run(student, variables, plain, train=False)
    np.testing.assert_array_equal(scores["logits"], run(TEXTS, variables, plain)["logits"])
    turned = run(student, variables, take(jax.device_get(batch), [5, 2]))
    np.testing.assert_allclose(turned["logits"], train["logits"][[5, 2]], atol=1e-6)
    patched = run(student, variables, batch, {"features.text": train["features.text"]})
    np.testing.assert_allclose(patched["logits"], train["logits"], atol=1e-6)
    with pytest.raises(UserError, match="needs partners"):
        run(student, variables, plain)
    with pytest.raises(UserError, match="no such output"):
        run(mix_embeddings(TEXTS, "hidden.text.9"), variables, batch)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: mixing.Mixup(0.0), "alpha must be above 0, not 0.0"),
        (lambda: mixing.CutMix(-1), "alpha"),
        (lambda: MixLabels(3, alpha=0), "alpha"),
        (lambda: mix_embeddings(TEXTS, "embedding", 0), "alpha"),
        (lambda: mixing.MixGen(2), "rate"),
        (lambda: mixing.Mixup(1.0, ("text",))(pairs(1) | text(1), KEYS[:1]), "mix_embeddings"),
        (lambda: mixing.Mixup(1.0, ("audio",))(pairs(1), KEYS[:1]), r"partners=data.Partners\(\('audio', …\)\)"),
        (lambda: Compose((mixing.Mixup(),))(rows(partners=False), StepContext(0, KEYS[0])), "needs partners"),
        (lambda: mixing.Mixup(classes=2)(pairs(1, label=jnp.ones(1)), KEYS[:1]), "label is float32"),
    ],
)
def test_errors(make, said):
    with pytest.raises(UserError, match=said):
        make()
