"""Implementations of losses between the relations of rows."""

import jax.numpy as jnp

from mmkd_jax import losses
from tests.losses.golden.recorded import Golden


def normalised(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def rkd_distance(h, s, t):
    s, t = (normalised(x) if h.get("with_l2_norm") else x for x in (s, t))
    return jnp.mean(losses.rkd_distance(s, t))


def rkd_angle(h, s, t):
    s, t = (normalised(x) if h.get("with_l2_norm") else x for x in (s, t))
    return jnp.mean(losses.rkd_angle(s, t))


def rkd(h, s, t):
    distance = next(h[k] for k in ("w_d", "distance_weight", "dist_factor", "dist_ratio") if k in h)
    angle = next(h[k] for k in ("w_a", "angle_weight", "angle_factor", "angle_ratio") if k in h)
    return distance * rkd_distance(h, s, t) + angle * rkd_angle(h, s, t)


def sp(h, s, t):
    return jnp.mean(losses.sp(s, t))


def pkt(h, s, t):
    return jnp.mean(losses.pkt(s, t))


ROWS = (
    Golden("rkd.*", "composed", "A weighted sum of the distance and the angle term.", rkd),
    Golden("rkd.mdistiller.*_squared", "differs", "It relates squared distances; the paper, distances.", rkd),
    Golden("rkd.KD_Lib.*", "differs", "It adds 1e-7 to the mean distance and clamps squares at 1e-10.", rkd),
    Golden("rkd_d.*", "equal", "The distance term.", rkd_distance),
    Golden("rkd_a.*", "equal", "The angle term.", rkd_angle),
    Golden("rkd_d.mmrazor.*", "composed", "The distance term of rows that were divided by their norm.", rkd_distance),
    Golden("rkd_a.mmrazor.*", "composed", "The angle term of rows that were divided by their norm.", rkd_angle),
    Golden("sp.*", "equal", "The squared distance of the normalised Gram matrices over n².", sp),
    Golden("sp.torchdistill.*", "differs", "It divides the rows by their L1 norm; the paper, by their L2 norm.", sp),
    Golden("pkt.*", "equal", "The mean over all n² pairs, the authors' 1e-7 included.", pkt),
)
