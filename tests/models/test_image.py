import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf, softmax

from mmkd_jax.core.model import StepContext, Taps
from mmkd_jax.errors import UserError
from mmkd_jax.models import ImageTransformer

CTX = StepContext(0, jax.random.key(0), train=False)
PICTURES = {
    "image": np.random.default_rng(0).integers(0, 256, (2, 6, 4, 3), dtype=np.uint8),
    "example_id": np.arange(2),
}


def features(module, variables, pictures):
    return jax.jit(lambda v, p: module.apply(v, p, "image", CTX, Taps({})))(variables, pictures)


def test_vision_transformer_is_the_formula():
    module = ImageTransformer(patch=2, embed_dim=6, num_heads=2, num_layers=1)
    variables = jax.jit(lambda key: module.init(key, PICTURES, "image", CTX, Taps({})))(jax.random.key(0))
    draw = np.random.default_rng(1)
    variables = jax.tree.map(lambda x: jnp.asarray(x + 0.3 * draw.normal(size=x.shape), jnp.float32), variables)
    p = jax.tree.map(np.float64, variables["params"])

    def norm(x, i):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * p[f"LayerNorm_{i}"]["scale"] + p[f"LayerNorm_{i}"]["bias"]

    def dense(x, i):
        return x @ p[f"Dense_{i}"]["kernel"] + p[f"Dense_{i}"]["bias"]

    expected = np.zeros((2, 6))
    for row, picture in enumerate(PICTURES["image"] / 255):
        patches = [picture[i : i + 2, j : j + 2].reshape(-1) for i in (0, 2, 4) for j in (0, 2)]
        x = dense(np.array(patches), 0) + p["positions"]
        h = norm(x, 0)
        q, k, v = (
            np.einsum("ld,dnk->nlk", h, p[f"DenseGeneral_{i}"]["kernel"]) + p[f"DenseGeneral_{i}"]["bias"][:, None]
            for i in range(3)
        )
        weights = softmax(q @ k.transpose(0, 2, 1) / np.sqrt(3), -1)
        x = x + np.einsum("nlk,nkd->ld", weights @ v, p["DenseGeneral_3"]["kernel"]) + p["DenseGeneral_3"]["bias"]
        h = dense(norm(x, 1), 1)
        x = x + dense(h * (1 + erf(h / np.sqrt(2))) / 2, 2)
        expected[row] = norm(x, 2).mean(0)
    np.testing.assert_allclose(features(module, variables, PICTURES), expected, atol=2e-5)


def test_images_that_patches_do_not_divide_are_refused():
    module = ImageTransformer(patch=4, embed_dim=4, num_heads=2)
    with pytest.raises(UserError, match=r"image: images of 6 × 4 px do not divide into patches of 4 px"):
        module.init(jax.random.key(0), PICTURES, "image", CTX, Taps({}))
