"""Values and gradients of published implementations, where the folder with the recordings is there."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses

FOLDER = Path(__file__).resolve().parents[3] / "shared/golden"
if not (FOLDER / "losses.json").exists():
    pytest.skip(f"no recorded values under {FOLDER}", allow_module_level=True)
INDEX = json.loads((FOLDER / "losses.json").read_text())["cases"]
ARRAYS = np.load(FOLDER / "losses.npz")


# One function a recorded loss: (case's hyperparameters, s, t, other inputs) -> what the implementation returned. Each
# says only how an implementation reduces, weights and names; the numbers come from ours.
def kd(h, s, t, y=None, m=None):
    temperature = next((h[k] for k in ("T", "temperature", "tau", "temp") if k in h), 1.0)
    values = losses.kl(s, t, temperature=temperature)
    if "alpha" in h and y is not None:  # alpha of the one, the rest of the other
        ce = jnp.mean(losses.cross_entropy(s, y))
        kd_share = h["alpha"] if h["repo"] in ("szagoruyko/attention-transfer", "google/tunix") else 1 - h["alpha"]
        return kd_share * jnp.mean(values) + (1 - kd_share) * ce
    if h["repo"] == "yzd-v/cls_KD":  # the cross-entropy form: KL and the teacher's entropy
        p = jax.nn.softmax(t / temperature)
        entropy = -jnp.sum(p * jnp.log(p), -1)
        return h["alpha"] * jnp.mean(values + temperature**2 * entropy)
    if h.get("reduction") == "none":
        return values
    return jnp.mean(values) / (s.shape[-1] if h.get("reduction") == "mean" else 1)


def dkd(h, s, t, y):
    temperature = next(h[k] for k in ("temperature", "tau", "temp") if k in h)
    return jnp.mean(losses.dkd(s, t, y, alpha=h["alpha"], beta=h["beta"], temperature=temperature))


def gkd_jsd(h, s, t, y):
    """TRL takes KL and reverse KL at the ends, and leaves padded tokens out."""
    temperature, valid = h["temperature"], y != -100
    if h["beta"] in (0.0, 1.0):
        values = (losses.reverse_kl if h["beta"] else losses.kl)(s, t, temperature=temperature) / temperature**2
    else:
        values = losses.jsd(s, t, beta=h["beta"], temperature=temperature)
    summed = jnp.sum(jnp.where(valid, values, 0))
    if h["reduction"] == "sum":
        return summed
    return summed / jnp.sum(valid) / (s.shape[-1] if h["reduction"] == "mean" else 1)


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


def at(h, s, t):
    """Channels come second there, and the larger map is pooled to the smaller's size."""
    k = t.shape[-1] // s.shape[-1]
    b, c, height, width = t.shape
    t = t.reshape(b, c, height // k, k, width // k, k).mean((3, 5))
    s, t = (x.transpose(0, 2, 3, 1) for x in (s, t))
    return jnp.mean(losses.attention_transfer(s, t, power=float(h.get("p", 2))))


def cos(h, s, t, m):
    return jnp.sum(losses.cosine(s, t) * m) / jnp.sum(m)


FUNCTIONS = {
    "kd": kd,
    "kd_mse": lambda h, s, t: jnp.mean(losses.logit_mse(s / h["temperature"], t / h["temperature"])),
    "ce": lambda h, s, y: jnp.mean(losses.cross_entropy(s, y, label_smoothing=h["label_smoothing"])),
    "dkd": dkd,
    "gkd_jsd": gkd_jsd,
    "rkd": rkd,
    "rkd_distance": rkd_distance,
    "rkd_angle": rkd_angle,
    "sp": lambda h, s, t: jnp.mean(losses.sp(s, t))[None],
    "pkt": lambda h, s, t: jnp.mean(losses.pkt(s, t)),
    "hint": lambda h, s, t: jnp.mean(losses.hint(s, t)),
    "at": at,
    "cos": cos,
}
# not the same function as ours: squared distances in place of distances; probabilities clipped at 1e-7; 1e-7 added to
# the mean distance, and distances clamped at 1e-5
OTHER = {"rkd.mdistiller.8x16_squared", "keras_logits.8x10_T1", "rkd.KD_Lib.12x64"}
CHOSEN = {c["id"]: c for c in INDEX if c["loss"] in FUNCTIONS and c["id"] not in OTHER}


def test_the_recordings_hold_every_loss_named_here():
    assert {c["loss"] for c in CHOSEN.values()} == set(FUNCTIONS)


@pytest.mark.parametrize("case", CHOSEN.values(), ids=CHOSEN.keys())
def test_value_and_gradient(case):
    tolerance = 1e-9 if case["dtype"] == "float64" else 1e-6
    inputs = {k: ARRAYS[v] for part in case["inputs"].values() for k, v in part.items()}
    (value,) = (ARRAYS[v] for v in case["outputs"].values())
    hyper = case["hyperparameters"] | {"repo": case["repo"]}
    with jax.enable_x64(True):
        inputs = {k: jnp.asarray(x, jnp.int32 if k == "y" else jnp.float64) for k, x in inputs.items()}
        s = inputs.pop("s")

        def function(s):
            result = FUNCTIONS[case["loss"]](hyper, s, **inputs)
            return jnp.sum(result), result

        gradient, ours = jax.jit(jax.grad(function, has_aux=True))(s)
        assert ours.shape == value.shape
        for mine, theirs in ((ours, value), (gradient, ARRAYS[case["grads"]["s"]])):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())
