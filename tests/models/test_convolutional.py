"""Convolutional encoders: depthwise products are XLA's own convolution, and statistics move in training alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.core.model import StepContext, linen
from mmkd_jax.errors import UserError
from mmkd_jax.models import ConvNext, Encoders, ResNet
from mmkd_jax.nn.conv import Depthwise
from tests.small import applied

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
BATCH = {"image": jnp.asarray(PIXELS), "example_id": jnp.arange(3)}


def test_depthwise_in_bfloat16_rounds_once():
    x = jax.random.normal(jax.random.key(0), (2, 9, 9, 4)).astype(jnp.bfloat16)
    module = Depthwise((7, 7), use_bias=False)
    kernel = {"params": {"kernel": jax.random.normal(jax.random.key(1), (7, 7, 4)).astype(jnp.bfloat16)}}
    wide: Any = module.apply(jax.tree.map(lambda k: k.astype(jnp.float32), kernel), x.astype(jnp.float32))
    np.testing.assert_array_equal(module.apply(kernel, x), wide.astype(jnp.bfloat16))


@pytest.mark.full
@pytest.mark.parametrize(
    ("stride", "padding", "dilation"),
    [
        (1, "SAME", 1),
        (2, "SAME", 1),
        (2, ((1, 2), (0, 1)), 1),
        (1, "VALID", 1),
        (1, "SAME", 3),
        (2, ((4, 4), (1, 2)), 2),
    ],
)
def test_depthwise_is_the_grouped_convolution_with_its_gradients(stride, padding, dilation):
    module = Depthwise((3, 2), stride, padding, dilation=dilation)
    x = jax.random.normal(jax.random.key(0), (2, 7, 6, 4))
    variables = module.init(jax.random.key(1), x)

    def theirs(params, x):
        kernel = params["kernel"][:, :, None]
        layout = ("NHWC", "HWIO", "NHWC")
        grouped = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), padding, None, (dilation, dilation), layout, feature_group_count=4
        )
        return grouped + params["bias"]

    def ours(params, x) -> Any:
        return module.apply({"params": params}, x)

    params = {**variables["params"], "bias": jnp.arange(4.0)}
    np.testing.assert_allclose(jax.jit(ours)(params, x), jax.jit(theirs)(params, x), atol=1e-5)
    one, other = (
        jax.jit(jax.grad(lambda p, x, f=f: jnp.sum(jnp.sin(f(p, x))), (0, 1)))(params, x) for f in (ours, theirs)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, other)


@pytest.mark.full
def test_statistics_move_in_training_alone():
    model = linen(Encoders({"image": ResNet(stem=4, widths=(8,), depths=(1,))}))
    variables = jax.jit(model.init)(jax.random.key(0), BATCH)
    _, moved = applied(model, variables, BATCH, StepContext(0, jax.random.key(0)))
    _, still = applied(model, variables, BATCH, StepContext(0, jax.random.key(0), train=False))
    assert not still
    before, after = (jax.tree.leaves(v["batch_stats"]) for v in (variables, moved))
    assert all((a != b).any() for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("encoder", [ResNet(stem=4, widths=(8,), depths=(1,)), ConvNext(widths=(4, 6), depths=(1, 1))])
def test_images_of_other_channels_are_refused(encoder):
    model = linen(Encoders({"image": encoder}))
    with pytest.raises(UserError, match=r"image: images of shape \[3, 32, 32, 1\]; expected \[b, h, w, 3\]"):
        model.init(jax.random.key(0), BATCH | {"image": BATCH["image"][..., :1]})
