"""Implementations of losses between the relations of rows."""

import jax.numpy as jnp

from mmkd_jax import losses
from tests.losses.golden.recorded import Golden


def rkd_distance(h, s, t):
    return jnp.mean(losses.rkd_distance(s, t, normalize=h.get("with_l2_norm", False)))


def rkd_angle(h, s, t):
    return jnp.mean(losses.rkd_angle(s, t, normalize=h.get("with_l2_norm", False)))


def rkd(h, s, t):
    distance = next(h[k] for k in ("w_d", "distance_weight", "dist_factor", "dist_ratio") if k in h)
    angle = next(h[k] for k in ("w_a", "angle_weight", "angle_factor", "angle_ratio") if k in h)
    return distance * rkd_distance(h, s, t) + angle * rkd_angle(h, s, t)


def as_given(loss):
    """Of the rows as they are, as in the paper."""
    return lambda h, s, t: loss({}, s, t)


def sp(h, s, t):
    return jnp.mean(losses.sp(s, t))


def sp_l1(h, s, t):
    return jnp.mean(losses.sp(s, t, norm="l1"))


def pkt(h, s, t):
    return jnp.mean(losses.pkt(s, t))


def cc(h, s, t):
    return jnp.mean(losses.cc(s, t, gamma=h.get("gamma", 0.4), order=h.get("max_p", 2)))


def cc_bilinear(h, s, t):
    return jnp.mean(losses.cc_bilinear(s, t))


def cc_unsquared(h, s, t):
    """‖K_s − K_t‖ / n² of the mean square."""
    return jnp.sqrt(cc_bilinear(h, s, t)) / len(s)


def dark_rank(h, s, t):
    return jnp.mean(losses.dark_rank(s, t, alpha=h["alpha"], beta=h["beta"], length=h["permute_len"]))


ROWS = (
    Golden("rkd.*", "composed", "A weighted sum of the distance and the angle term.", rkd),
    Golden("rkd.mdistiller.*_squared", "differs", "It relates squared distances; the paper, distances.", rkd),
    Golden("rkd.KD_Lib.*", "differs", "It adds 1e-7 to the mean distance and clamps squares at 1e-10.", rkd),
    Golden("rkd_d.*", "equal", "The distance term.", rkd_distance),
    Golden("rkd_a.*", "equal", "The angle term.", rkd_angle),
    Golden("rkd_d.mmrazor.*", "equal", "Rows divided by their norm: normalize.", rkd_distance, as_given(rkd_distance)),
    Golden("rkd_a.mmrazor.*", "equal", "Rows divided by their norm: normalize.", rkd_angle, as_given(rkd_angle)),
    Golden("sp.*", "equal", "The squared distance of the normalized Gram matrices over n².", sp),
    Golden("sp.torchdistill.*", "equal", "The rows divided by their L1 norm, the paper's by L2: norm='l1'.", sp_l1, sp),
    Golden("pkt.*", "equal", "The mean over all n² pairs, the authors' 1e-7 included.", pkt),
    Golden("cc.RepDistiller.*", "differs", "It multiplies the gaps of neighboring rows; there is no kernel.", cc),
    Golden(
        "cc.torchdistill_bilinear.*",
        "composed",
        "The root of the paper's mean square, over n.",
        cc_unsquared,
        cc_bilinear,
    ),
    Golden(
        "cc.torchdistill_gaussian.*", "differs", "It neither divides the rows by their norm nor squares the whole.", cc
    ),
    Golden("kdsvd.*", "not offered", "Singular vectors with signs as LAPACK gives them: implementations disagree."),
    Golden("darkrank.authors.*", "equal", "The mean over all queries, for the nearest four.", dark_rank),
)
