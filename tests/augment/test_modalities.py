import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.augment.modalities import ModalityDropout, drop_modality, withhold
from mmkd_jax.core.model import StepContext
from mmkd_jax.errors import UserError

IDS = jnp.arange(4000)
BATCH = {"image": jnp.ones((4000, 1)), "audio": jnp.ones((4000, 1)), "example_id": IDS, "present.audio": IDS % 4 > 0}
DROP = drop_modality(0.3, ("image", "audio"))


def seen(batch, step=0, train=True):
    return DROP(batch, StepContext(step, jax.random.key(step), train))


def test_rate_and_the_last_modality_stays():
    out = seen(BATCH)
    image, audio = out["present.image"], out["present.audio"]
    assert bool((image | audio).all())
    assert not bool((audio & ~BATCH["present.audio"]).any())
    alone = ~BATCH["present.audio"]
    assert bool(image[alone].all())
    both = BATCH["present.audio"]
    # of rows with two, each is dropped with probability 0.3 − 0.3² / 2
    assert float(1 - image[both].mean()) == pytest.approx(0.255, abs=0.03)
    assert float(1 - audio[both].mean()) == pytest.approx(0.255, abs=0.03)


def test_keyed_by_example_and_step():
    turned = jax.tree.map(lambda x: x[::-1], BATCH)
    np.testing.assert_array_equal(seen(turned)["present.image"][::-1], seen(BATCH)["present.image"])
    assert bool((seen(BATCH, 1)["present.image"] != seen(BATCH)["present.image"]).any())


def test_nothing_outside_training():
    assert seen(BATCH, train=False) is BATCH


def test_wrong_rate():
    with pytest.raises(UserError, match="1.5"):
        drop_modality(1.5, ("image",))


def test_what_is_withheld_is_never_there_in_use():
    transform = withhold(0.5, ("audio",))
    ctx = StepContext(0, jax.random.key(0))
    out = transform(BATCH, ctx)
    audio = out["present.audio"]
    assert not bool((audio & ~BATCH["present.audio"]).any()) and "present.image" not in out
    assert float(audio[BATCH["present.audio"]].mean()) == pytest.approx(0.5, abs=0.03)
    turned = transform(jax.tree.map(lambda x: x[::-1], BATCH), ctx)
    np.testing.assert_array_equal(turned["present.audio"][::-1], audio)
    assert not bool(transform(BATCH, ctx._replace(train=False))["present.audio"].any())
    with pytest.raises(UserError, match="-1.0"):
        withhold(-1.0, ("image",))


def test_the_step_of_a_chain_drops_by_the_rows_keys_alone(strict):
    keys = jax.random.split(jax.random.key(0), 4000)
    out = ModalityDropout(0.3, ("image", "audio"))(BATCH, keys)
    image, audio, both = out["present.image"], out["present.audio"], BATCH["present.audio"]
    assert bool((image | audio).all()) and bool(image[~both].all()) and not bool((audio & ~both).any())
    assert float(1 - image[both].mean()) == pytest.approx(0.255, abs=0.03)
    none = ModalityDropout(0.0, ("image", "audio"))(BATCH, keys)
    assert bool(none["present.image"].all()) and bool((none["present.audio"] == both).all())
    with pytest.raises(UserError, match="ModalityDropout: rate must be between 0 and 1, not -1"):
        ModalityDropout(-1, ("image",))
