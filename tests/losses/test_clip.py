"""What losses between image–text models are in special cases, and what they do not look at."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses
from mmkd_jax.errors import UserError
from tests.losses.cases import CASES
from tests.losses.harness import arrays, close

OURS, THEIRS = (arrays(CASES["clip_crd"].inputs)[k] for k in ("student", "teacher"))
SAME = arrays(CASES["clip_gd"].inputs)
RELATIONS = {n: getattr(losses, n) for n in ("clip_crd", "tinyclip", "mobileclip", "dime_vl")}


def turned(x, seed):
    """Embeddings in another basis: no relation between them changes."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(x[0].shape[1],) * 2))
    return tuple(3 * y @ jnp.asarray(q, y.dtype) for y in x)


@pytest.mark.full
@pytest.mark.parametrize("loss", RELATIONS.values(), ids=RELATIONS.keys())
def test_relations_know_no_basis_and_no_length(loss):
    close(loss(turned(OURS, 0), turned(THEIRS, 1)), loss(OURS, THEIRS), 1e-3)


@pytest.mark.parametrize("loss", RELATIONS.values(), ids=RELATIONS.keys())
def test_images_and_texts_count_alike(loss):
    close(loss(OURS[::-1], THEIRS[::-1]), loss(OURS, THEIRS), 1e-5)


def test_they_are_one_family():
    t = {"temperature": 0.3}
    both: dict[str, Any] = t | {"teacher_temperature": 0.3}
    crd = losses.clip_crd(OURS, THEIRS, **both)
    close(losses.dime_vl(OURS, THEIRS, **t), 2 * crd, 1e-5)
    close(losses.mobileclip(OURS, THEIRS + turned(THEIRS, 0), **t, teacher_temperatures=(0.3, 0.3)), crd, 1e-4)
    entropy = losses.tinyclip(THEIRS, THEIRS, **both)
    close(losses.tinyclip(OURS, THEIRS, **both) - entropy, crd, 1e-4, 1e-5)
    # of one modality in the place of the two
    image, to_image = OURS[0], THEIRS[0]
    twice = losses.clip_crd((image, image), (to_image, to_image), **both)
    close(losses.dime_unimodal(image, to_image, **t), 2 * twice, 1e-5)
    # a teacher that is sure of each pair: what is left is contrast
    sure = (jnp.eye(5), jnp.eye(5))
    hard = losses.clip_crd(OURS, sure, temperature=0.3, teacher_temperature=1e-3)
    close(hard, losses.info_nce(*OURS, temperature=0.3, symmetric=True), 1e-5)


def test_icl_of_a_student_that_is_its_teacher_is_contrast():
    image, text = THEIRS
    close(losses.clip_icl(THEIRS, THEIRS), losses.info_nce(image, text, symmetric=True), 1e-5)


@pytest.mark.full
def test_gd_compares_what_autodiff_gives():
    with jax.enable_x64(True):
        same = arrays(CASES["clip_gd"].inputs)
        unit = {k: tuple(x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in v) for k, v in same.items()}
        slopes = []
        for model, t in (("student", 0.5), ("teacher", 0.7)):
            for a, b in ((0, 1), (1, 0)):

                def contrast(x, y, t=t):
                    return -jnp.mean(jnp.diag(jax.nn.log_softmax(x @ y.T / t)))

                slopes += jax.grad(contrast, (0, 1))(unit[model][a], unit[model][b])
        expected = sum(jnp.mean((a - b) ** 2, 1) for a, b in zip(slopes[:4], slopes[4:], strict=True))
        close(losses.clip_gd(**same, temperature=0.5, teacher_temperature=0.7), expected, 1e-9)


def test_compress_and_seed_know_no_order_of_the_queue():
    for name in ("compress", "seed"):
        inputs = arrays(CASES[name].inputs)
        other = inputs | {k: x[::-1] for k, x in inputs.items() if "keys" in k}
        close(CASES[name].loss(**other), CASES[name].loss(**inputs), 1e-4)


def test_seed_of_a_sure_teacher_is_contrast_with_the_queue():
    given = arrays(CASES["seed"].inputs)
    student, teacher, keys = (given[name] for name in CASES["seed"].inputs)
    keys = keys / jnp.linalg.norm(keys, axis=1, keepdims=True)
    values = losses.seed(student, teacher, keys, temperature=0.5, teacher_temperature=1e-4)
    s, t = (x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in (student, teacher))
    scores = jnp.concatenate([jnp.sum(s * t, 1, keepdims=True), s @ keys.T], 1) / 0.5
    close(values, -jax.nn.log_softmax(scores)[:, 0], 1e-4)


def test_an_ensemble_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match="mobileclip: teacher has 3 arrays; expected one image and one text array per"):
        losses.mobileclip(OURS, THEIRS + THEIRS[:1])
    with pytest.raises(UserError, match="teacher_temperatures has 3 values for 2 teachers; expected one"):
        losses.mobileclip(OURS, THEIRS + THEIRS, teacher_temperatures=(1.0, 1.0, 1.0))
    with pytest.raises(UserError, match=r"teacher_temperatures\[0\] is -1.0; expected a number above 0"):
        losses.mobileclip(OURS, THEIRS, teacher_temperatures=(-1.0,))
