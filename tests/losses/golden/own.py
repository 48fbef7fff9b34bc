"""Implementations of losses that go with parameters of their own."""

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import losses, methods
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.outputs import Outputs
from tests.losses.golden.recorded import Golden, channels_last

# mdistiller's margins are not among the recorded inputs; its recorded gradient tells them
MARGIN = (
    -1.6870570114179522,
    -1.0133823983433872,
    -0.000290222304575,
    -1.3795522868398043,
    -0.5044034599748788,
    -1.5492203404557547,
)


def pooled(s, t):
    """Maps of one size, channels last: there, the larger one is pooled."""
    s, t = channels_last(s), channels_last(t)
    size = min(s.shape[1], t.shape[1])

    def shrink(x):
        k = x.shape[1] // size
        return x.reshape(len(x), size, k, size, k, -1).mean((2, 4))

    return shrink(s), shrink(t)


def vid(h, s, t, log_scale, **weights):
    """By the method, with their 1×1 convolutions as its parameters."""
    s, t = pooled(s, t)
    kernels = [weights[k][:, :, 0, 0].T for k in sorted(weights)]
    params = {"regressor": {f"Dense_{i}": {"kernel": k} for i, k in enumerate(kernels)}, "scale": log_scale}
    method = methods.vid(student="student.map", teacher="teacher.map")
    ctx = StepContext(jnp.int32(0), jax.random.key(0))
    outputs = Outputs({}, {"student": {"map": s}, "teacher": {"map": t}}, {}, ctx)
    term, _ = method.apply(params, method.init(outputs)[1], outputs)
    return jnp.mean(term.values)


def vid_given(h, s, t, var):
    return jnp.mean(losses.vid(channels_last(s), var.reshape(-1), channels_last(t)))


def ft_sum(h, s, t):
    """Theirs is the mean over the elements of a factor."""
    return jnp.mean(losses.factor_transfer(s, t)) / s[0].size


def ft_paper(h, s, t):
    return jnp.mean(losses.factor_transfer(s, t))


def ft_norm(h, s, t):
    return jnp.mean(losses.factor_transfer(s, t, power=2))


def ft_attention(h, s, t):
    """Theirs takes the mean square over channels for the factor."""
    return ft_sum(h, *squares(s, t))


def ft_attention_paper(h, s, t):
    return ft_paper(h, *squares(s, t))


def squares(s, t):
    return [jnp.mean(x * x, -1) for x in pooled(s, t)]


def ofd(h, s, t, margin=np.array(MARGIN)):  # noqa: B008
    return jnp.mean(losses.ofd(channels_last(s), channels_last(t), jnp.asarray(margin).reshape(-1)))


def ofd_without_margin(h, s, t):
    """Theirs has the margin in a connector, and the authors' 1/1000 in the loss."""
    return ofd_unscaled(h, s, t) / 1000


def ofd_unscaled(h, s, t):
    return ofd(h, s, t, np.full(s.shape[1], -np.inf))


ROWS = (
    Golden("vid.*", "composed", "Their 1×1 convolutions are the regressor of methods.vid; maps are pooled first.", vid),
    Golden("vid.torchdistill", "equal", "The mean over all features, with the variance as given.", vid_given),
    Golden("ft.*", "composed", "The paper's norm for p = 1, divided by the number of elements.", ft_sum, ft_paper),
    Golden("ft.torchdistill_p2", "equal", "The paper's norm for p = 2.", ft_norm),
    Golden(
        "ft.RepDistiller*",
        "composed",
        "It takes the mean squares over channels for factors, and the mean of their gaps.",
        ft_attention,
        ft_attention_paper,
    ),
    Golden("kta.*", "composed", "The arithmetic of factor transfer with p = 1, by its mean.", ft_sum, ft_paper),
    Golden(
        "ofd.mdistiller*",
        "equal",
        "The sum where the margin lets it count; margins read off the recorded gradient.",
        ofd,
    ),
    Golden(
        "ofd.mmrazor*",
        "composed",
        "Its connector has the margin; the rest is over 1000.",
        ofd_without_margin,
        ofd_unscaled,
    ),
)
