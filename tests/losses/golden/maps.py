"""Implementations of losses between feature maps: channels come second there."""

from itertools import pairwise

import jax.numpy as jnp

from mmkd_jax import losses
from tests.losses.golden.recorded import Golden, channels_last


def of_one_size(s, t):
    """The larger map averaged to the smaller's size, which divides it, and the channels last."""
    size = min(s.shape[-1], t.shape[-1])

    def small(x):
        b, c, height, _ = x.shape
        k = height // size
        return channels_last(x.reshape(b, c, size, k, size, k).mean((3, 5)))

    return small(s), small(t)


def at(h, s, t):
    return jnp.mean(losses.attention_transfer(*of_one_size(s, t), power=float(h.get("p", 2))))


def at_paper(h, s, t):
    return jnp.mean(losses.attention_transfer(*of_one_size(s, t), form="paper"))


def nst(h, s, t):
    return jnp.mean(losses.nst(*of_one_size(s, t)))


def layers(maps):
    """(student's, teacher's) of maps named s0, t0, s1 …"""
    return [tuple(channels_last(maps[f"{side}{i}"]) for i in range(len(maps) // 2)) for side in "st"]


def fsp(h, **maps):
    return jnp.mean(losses.fsp(*layers(maps)))


def fsp_average(h, **maps):
    return jnp.mean(losses.fsp(*layers(maps), pool="average"))


def fsp_mean(h, **maps):
    """The mean over each matrix."""
    total = 0
    for s, t in zip(*map(pairwise, layers(maps)), strict=True):
        total += jnp.mean(losses.fsp(s, t, pool="average")) / (s[0].shape[-1] * s[1].shape[-1])
    return total


def ab(h, s, t):
    return jnp.mean(losses.activation_boundary(s, t))


def ab_scaled(h, s, t):
    return 3 / 1000 * ab(h, s, t)


def ab_layers(h, **maps):
    n = len(maps) // 2
    return sum(2.0 ** (i - n + 1) * ab_scaled(h, maps[f"s{i}"], maps[f"t{i}"]) for i in range(n))


def ab_plain(h, **maps):
    return sum(ab(h, maps[f"s{i}"], maps[f"t{i}"]) for i in range(len(maps) // 2))


def cwd(h, s, t):
    return jnp.mean(losses.cwd(channels_last(s), channels_last(t), temperature=float(h["tau"])))


def ickd(h, s, t):
    return jnp.mean(losses.ickd(channels_last(s), channels_last(t)))


def ickd_over_batch(h, s, t):
    return ickd(h, s, t) / len(s)


def affinity(h, s, t):
    return jnp.mean(losses.affinity(channels_last(s), channels_last(t)))


ROWS = (
    Golden("at.*", "equal", "The mean of squares between normalized maps, the larger one pooled first.", at),
    Golden("at.torchdistill_paper", "equal", "The paper's norm: form='paper'.", at_paper),
    Golden("at.KD_Lib", "differs", "It normalizes the whole map without reducing channels: no attention map.", at),
    Golden("nst.*", "equal", "The polynomial kernel, the larger map pooled first.", nst),
    Golden(
        "fsp.RepDistiller",
        "composed",
        "The mean over each matrix in place of the paper's sum, pooled by the average.",
        fsp_mean,
        fsp_average,
    ),
    Golden("fsp.torchdistill", "differs", "It sums the norms of columns; the paper, squares.", fsp),
    Golden("ab.RepDistiller", "composed", "Layers weigh 1/4, 1/2, 1, and all of it 3/1000.", ab_layers, ab_plain),
    Golden("ab.mmrazor", "composed", "Times 3/1000.", ab_scaled, ab),
    Golden("ab.torchdistill", "equal", "The sum over neurons.", ab),
    Golden("cwd.*", "equal", "The mean over channels, times T².", cwd),
    Golden("ickd.torchdistill", "composed", "Over the size of the batch once more.", ickd_over_batch, ickd),
    Golden("affinity.*", "differs", "It relates positions within each channel; the paper, feature vectors.", affinity),
)
