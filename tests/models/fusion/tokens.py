"""Three modalities with tokens, and attention written out in NumPy from the papers."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax.core.model import Taps

ROWS, HEADS, WIDTH = 5, 2, 4
PRESENT = {
    "image": np.array([1, 1, 0, 1, 0], bool),
    "audio": np.array([1, 0, 1, 1, 0], bool),
    "text": np.array([1, 1, 1, 0, 0], bool),
}
"""One row has all modalities, three lack one, the last has none."""


def outputs(fill: float = 0.5, present=PRESENT, seed: int = 0) -> tuple[dict, dict]:
    """Features, and outputs of the encoders: a feature map, masked tokens, and frames of tokens of which one is masked.

    What is absent or masked has the content `fill`.
    """
    draw = np.random.default_rng(seed)
    made = {
        "hidden.image.0": draw.normal(size=(ROWS, 8, 8, 1)),
        "hidden.image.1": draw.normal(size=(ROWS, 2, 2, 3)),
        "tokens_mask.text": np.arange(3)[None] < np.array([3, 2, 1, 3, 3])[:, None],
        "hidden.text.0": draw.normal(size=(ROWS, 3, 2)),
        "tokens.text": draw.normal(size=(ROWS, 3, 2)),
        "frames_mask.audio": np.arange(2)[None] < np.array([2, 1, 1, 1, 2])[:, None],
        "hidden.audio.0": draw.normal(size=(ROWS, 2, 2, 5)),
    }
    features = {m: draw.normal(size=(ROWS, n)) for m, n in {"image": 2, "audio": 3, "text": 4}.items()}
    for m, here in present.items():
        features[m][~here] = fill
        for n in made:
            if f".{m}" in n and "mask" not in n:
                made[n][~here] = fill
    made["tokens.text"][~made["tokens_mask.text"]] = fill
    made["hidden.audio.0"][~made["frames_mask.audio"]] = fill

    def ready(x):
        return jnp.asarray(x if x.dtype == bool else x.astype(np.float32))

    return {m: ready(x) for m, x in features.items()}, {n: ready(x) for n, x in made.items()}


def run(fusion, params, features, made, present=PRESENT, patch=None):
    """The fused features, and what is tapped."""
    tap = Taps(patch or {})
    tap.outputs.update(made)
    fused = fusion.apply({"params": params}, features, {m: jnp.asarray(x) for m, x in present.items()}, tap)
    return fused, {n: x for n, x in tap.outputs.items() if n not in made}


def ready(fusion, present=PRESENT):
    """Parameters that are all different from their initial values."""
    features, made = outputs(present=present)
    features = {m: features[m] for m in present}
    given = {m: jnp.asarray(x) for m, x in present.items()}

    def init(key):
        tap = Taps({})
        tap.outputs.update(made)
        return fusion.init(key, features, given, tap)["params"]

    like = jax.eval_shape(init, jax.random.key(0))
    draw = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.asarray(draw.normal(size=x.shape) * 0.5, x.dtype), like)


def jitted(fusion, params, features, made, present=PRESENT, patch=None):
    return jax.jit(lambda *a: run(fusion, *a, present=present, patch=patch))(params, features, made)


def valid_tokens(made, m, i):
    """The valid tokens of a row [l, d] in float64, and their indices among all."""
    if m == "image":
        return np.asarray(made["hidden.image.1"][i], np.float64).reshape(4, 3), np.arange(4)
    if m == "text":
        places = np.flatnonzero(made["tokens_mask.text"][i])
        return np.asarray(made["tokens.text"][i], np.float64)[places], places
    places = np.flatnonzero(np.repeat(made["frames_mask.audio"][i], 2))
    return np.asarray(made["hidden.audio.0"][i], np.float64).reshape(4, 5)[places], places


def dense(p, x):
    return x @ np.asarray(p["kernel"], np.float64) + np.asarray(p.get("bias", 0), np.float64)


def norm(p, x):
    centered = x - x.mean(-1, keepdims=True)
    scaled = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-6)
    return scaled * np.asarray(p["scale"], np.float64) + np.asarray(p["bias"], np.float64)


def layer(p, x, y=None):
    """A pre-norm Transformer layer on one row's tokens: tokens [q, d], and weights by head [heads, q, s]."""
    queries = norm(p["norm_queries"], x)
    keys = queries if y is None else norm(p["norm_keys"], y)
    q, k, v = dense(p["query"], queries), dense(p["key"], keys), dense(p["value"], keys)
    heads, weights = [], []
    for part in np.split(np.arange(x.shape[1]), HEADS):
        score = np.exp(q[:, part] @ k[:, part].T / np.sqrt(len(part)))
        weights.append(score / score.sum(1, keepdims=True))
        heads.append(weights[-1] @ v[:, part])  # a sum over no keys is 0
    x = x + dense(p["out"], np.concatenate(heads, 1))
    h = dense(p["grow"], norm(p["norm_output"], x))
    gelu = h * 0.5 * (1 + np.vectorize(math.erf)(h / np.sqrt(2)))
    return x + dense(p["shrink"], gelu), np.array(weights)


def sines(places, width):
    """Position embeddings of the indices: sin(t / 10000^(j / (n − 1))) and the cosines, n = width / 2."""
    half = width // 2
    angles = places[:, None] / 10_000.0 ** (np.arange(half) / max(half - 1, 1))
    return np.concatenate([np.sin(angles), np.cos(angles)], 1)


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=2e-5)
