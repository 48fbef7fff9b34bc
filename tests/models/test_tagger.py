"""Context of a token classifier: features of a row, such as of its picture, that each of its tokens sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.core.model import linen, predict
from mmkd_jax.errors import UserError
from mmkd_jax.models import ImageMLP, Tagger, TextBag

ENCODERS = {"image": ImageMLP(()), "words": TextBag(5, 3)}
BATCH = {
    "words.ids": jnp.array([[1, 2, 0], [3, 4, 1], [2, 0, 0]]),
    "words.mask": jnp.array([[True, True, False], [True] * 3, [True, False, False]]),
    "image": jnp.array([[0.5, 2.0], [3.0, 4.0], [jnp.nan, jnp.nan]]),
    "present.image": jnp.array([True, True, False]),
    "example_id": jnp.arange(3),
}


def test_each_token_has_the_features_of_its_row_and_zeros_where_there_are_none():
    model = linen(Tagger(ENCODERS, 2, width=0, context=("image",)))
    variables = model.init(jax.random.key(0), BATCH)
    found = predict(model, variables, BATCH)
    table = variables["params"]["encoders_words"]["Embed_0"]["embedding"]
    expected = np.concatenate([table[BATCH["words.ids"]], np.broadcast_to(BATCH["image"][:, None], (3, 3, 2))], -1)
    expected[2, :, 3:] = 0
    expected[~np.asarray(BATCH["words.mask"])] = 0
    np.testing.assert_array_equal(found["embedding"], expected)
    np.testing.assert_array_equal(found["mask"], BATCH["words.mask"])
    grad = jax.grad(lambda image: predict(model, variables, {**BATCH, "image": image})["logits"].sum())(BATCH["image"])
    assert jnp.isfinite(grad).all() and not grad[2].any() and grad[:2].any()


def test_the_order_of_the_encoders_and_padding_are_no_part_of_the_tags():
    one, other = (
        linen(Tagger(dict(pairs), 2, 4, window=1, context=("image",)))
        for pairs in (ENCODERS.items(), reversed(ENCODERS.items()))
    )
    variables = one.init(jax.random.key(0), BATCH)
    found = predict(one, variables, BATCH)["logits"]
    np.testing.assert_array_equal(predict(other, variables, BATCH)["logits"], found)
    longer = {k: jnp.pad(x, ((0, 0), (0, 2))) if k.startswith("words") else x for k, x in BATCH.items()}
    where = BATCH["words.mask"]
    np.testing.assert_allclose(predict(one, variables, longer)["logits"][:, :3][where], found[where], rtol=1e-6)


@pytest.mark.parametrize(
    ("context", "said"),
    [
        (("sound",), "Tagger: context 'sound' has no encoder; there are: image, words"),
        (("image", "words"), "Tagger: all modalities are context, image, words: leave out that of the words"),
    ],
)
def test_a_context_without_an_encoder_or_without_words_is_refused(context, said):
    with pytest.raises(UserError, match=said):
        linen(Tagger(ENCODERS, 2, context=context)).init(jax.random.key(0), BATCH)
