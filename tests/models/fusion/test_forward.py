"""Every fusion computes what its paper writes, row by row in NumPy, from the modalities that are present alone."""

import itertools
from typing import Any

import jax
import numpy as np
import pytest
from scipy.special import erf

from tests.models.fusion.test_contract import ROWS, module, program, rows, variables


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def dense(p, x):
    return x @ p["kernel"] + p.get("bias", 0)


def norm(p, x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def gelu(x):
    return x / 2 * (1 + erf(x / np.sqrt(2)))


def concat(p, f, widths):
    """[f_1; f_2; …] in the order of the encoders."""
    return {"fused": np.concatenate([f.get(m, np.zeros(n)) for m, n in widths.items()])}


def gated(p, f, widths):
    if not f:
        return {"gates": np.zeros(len(widths)), "fused": np.zeros(4)}
    g = dict(zip(f, softmax(np.array([dense(p[f"gate_{m}"], x)[0] for m, x in f.items()])), strict=True))
    fused = sum(g[m] * dense(p[f"value_{m}"], x) for m, x in f.items())
    return {"gates": np.array([g.get(m, 0) for m in sorted(widths)]), "fused": fused}


def total(p, f, widths):
    return {"fused": sum((dense(p[f"value_{m}"], x) for m, x in f.items()), np.zeros(4))}


def mean(p, f, widths):
    return {"fused": total(p, f, widths)["fused"] / max(len(f), 1)}


def gmu(p, f, widths):
    """Each unit j has its own softmax over the modalities."""
    names, gates = sorted(widths), np.zeros((len(widths), 4))
    whole = np.concatenate([f.get(m, np.zeros(widths[m])) for m in names])
    for j in range(4) if f else ():
        score = softmax(np.array([dense(p[f"gate_{m}"], whole)[j] for m in names if m in f]))
        gates[[i for i, m in enumerate(names) if m in f], j] = score
    fused = sum((gates[names.index(m)] * np.tanh(dense(p[f"value_{m}"], x)) for m, x in f.items()), np.zeros(4))
    return {"gates": gates, "fused": fused}


def gmu_of_two(p, f, widths):
    """The paper's: z = σ(W [f_1; f_2]), z ⊙ h_1 + (1 − z) ⊙ h_2."""
    one, two = sorted(widths)
    h = {m: np.tanh(dense(p[f"value_{m}"], x)) for m, x in f.items()}
    if len(f) == 2:
        z = sigmoid(dense(p[f"gate_{one}"], np.concatenate([f[one], f[two]])))
        return {"gates": np.stack([z, 1 - z]), "fused": z * h[one] + (1 - z) * h[two]}
    gates = np.stack([np.full(4, float(m in f)) for m in (one, two)])
    return {"gates": gates, "fused": sum(h.values(), np.zeros(4))}


def tensor_fusion(p, f, widths):
    def factor(m):
        return np.concatenate([[1], dense(p[f"value_{m}"], f[m]) if m in f else np.zeros(2)])

    a, b, c = map(factor, sorted(widths))
    return {"fused": np.einsum("i,j,k->ijk", a, b, c).ravel()}


def low_rank(p, f, widths):
    """Σ_r w_r ∏_m (F_m^r [1; f_m]) as a tensor: that of tensor fusion, times a weight tensor that is never small."""
    modalities = sorted(widths)
    one = {m: np.concatenate([[1], f.get(m, np.zeros(widths[m]))]) for m in modalities}
    factor = {m: np.vstack([p[f"factor_{m}"]["bias"], p[f"factor_{m}"]["kernel"]]) for m in modalities}
    fused = p["bias"].copy()
    for h in range(4):
        for index in itertools.product(*(range(len(one[m])) for m in modalities)):
            weight = sum(
                p["weight"][r] * np.prod([factor[m][i, 4 * r + h] for m, i in zip(modalities, index, strict=True)])
                for r in range(3)
            )
            fused[h] += weight * np.prod([one[m][i] for m, i in zip(modalities, index, strict=True)])
    return {"fused": fused}


def attention(p, f, widths):
    names = [m for m in sorted(widths) if m in f]
    x = np.stack([p["class_token"], *(dense(p[f"value_{m}"], f[m]) for m in names)])
    layer = p["layers"]["layer_0"]
    y, mixed, maps = norm(layer["norm_attention"], x), [], []
    q, k, v = (dense(layer[n], y) for n in ("query", "key", "value"))
    for head in (slice(0, 2), slice(2, 4)):
        maps.append(softmax(q[:, head] @ k[:, head].T / np.sqrt(2)))
        mixed.append(maps[-1] @ v[:, head])
    x = x + dense(layer["out"], np.concatenate(mixed, -1))
    x = x + dense(layer["shrink"], gelu(dense(layer["grow"], norm(layer["norm_output"], x))))
    from_class = np.zeros((2, 1 + len(widths)))
    from_class[:, [0, *(1 + sorted(widths).index(m) for m in names)]] = np.stack(maps)[:, 0]
    return {"fused": norm(p["norm"], x[0]), "attentions from the class token": from_class}


def probabilities(p, f, widths):
    return {m: softmax(dense(p[f"classifier_{m}"]["Dense_0"], x)) for m, x in f.items()}


def late(p, f, widths):
    found = list(probabilities(p, f, widths).values()) or [np.full(3, 1 / 3)]
    return {"fused": np.log(np.mean(found, 0)), "gates": np.array([(m in f) / max(len(f), 1) for m in sorted(widths)])}


def late_learned(p, f, widths):
    found = probabilities(p, f, widths)
    w = {m: np.exp(p[f"score_{m}"]) / sum(np.exp(p[f"score_{n}"]) for n in f) for m in f}
    mixed = sum(w[m] * found[m] for m in f) if f else np.full(3, 1 / 3)
    return {"fused": np.log(mixed), "gates": np.array([w.get(m, 0) for m in sorted(widths)])}


def late_product(p, f, widths):
    found = list(probabilities(p, f, widths).values()) or [np.full(3, 1 / 3)]
    product = np.prod(found, 0) ** (1 / len(found))
    return {"fused": np.log(product / product.sum())}


def film(p, f, widths):
    gamma = 1 + (dense(p["gamma"], f["text"]) if "text" in f else np.zeros(4))
    beta = dense(p["beta"], f["text"]) if "text" in f else np.zeros(4)
    value = dense(p["value"], f["image"]) if "image" in f else np.zeros(4)
    return {"gamma": gamma, "beta": beta, "fused": gamma * value + beta}


def experts(top_k):
    def forward(p, f, widths):
        x = np.concatenate([f.get(m, np.zeros(widths[m])) for m in sorted(widths)])
        x = np.concatenate([x, [float(m in f) for m in sorted(widths)]])
        router, gates, fused = softmax(dense(p["router"], x)), np.zeros(3), np.zeros(4)
        for e in np.argsort(-router, kind="stable")[:top_k]:
            hidden = np.maximum(x @ p["grow_kernel"][e] + p["grow_bias"][e], 0)
            gates[e] = router[e] if top_k == 1 else router[e] / np.sort(router)[-top_k:].sum()
            fused += gates[e] * (hidden @ p["shrink_kernel"][e] + p["shrink_bias"][e])
        return {"router": router, "gates": gates, "fused": fused}

    return forward


def multiplicative(p, f, widths):
    one, two = sorted(widths)
    fused = p["bias"] + sum((dense(p[f"linear_{m}"], x) for m, x in f.items()), np.zeros(4))
    if len(f) == 2:
        fused = fused + np.array([f[one] @ p["bilinear"][:, :, o] @ f[two] for o in range(4)])
    return {"fused": fused}


def multiplicative_low_rank(p, f, widths):
    fused = p["bias"] + sum((dense(p[f"linear_{m}"], x) for m, x in f.items()), np.zeros(4))
    for m, n in itertools.combinations(f, 2):
        fused = fused + dense(p["out"], dense(p[f"factor_{m}"], f[m]) * dense(p[f"factor_{n}"], f[n]))
    return {"fused": fused}


def mixer(p, f, widths):
    x = np.stack([dense(p[f"value_{m}"], f[m]) if m in f else p[f"absent_{m}"] for m in sorted(widths)])
    tokens = [x]

    def mlp(name, y):
        return dense(p[f"{name}_shrink"], gelu(dense(p[f"{name}_grow"], y)))

    x = x + mlp("modalities_0", norm(p["norm_modalities_0"], x).T).T
    x = x + mlp("channels_0", norm(p["norm_channels_0"], x))
    return {"mixer.0": tokens[0], "mixer.1": x, "fused": norm(p["norm"], x).mean(0)}


def orthogonal(p, f, widths):
    x = {m: dense(p[f"value_{m}"], y) for m, y in f.items()}
    shared = {m: sigmoid(dense(p["shared"], y)) for m, y in x.items()}
    private = {m: sigmoid(dense(p[f"private_{m}"], y)) for m, y in x.items()}
    outputs = {f"shared.{m}": shared.get(m, np.zeros(4)) for m in widths}
    outputs |= {f"private.{m}": private.get(m, np.zeros(4)) for m in widths}
    common = np.mean(list(shared.values()), 0) if f else np.zeros(4)
    return outputs | {"fused": np.concatenate([common, *(outputs[f"private.{m}"] for m in sorted(widths))])}


FORWARD = {
    "concat": concat,
    "gated": gated,
    "sum": mean,
    "sum, not mean": total,
    "gmu": gmu,
    "gmu of two": gmu_of_two,
    "tensor fusion": tensor_fusion,
    "low rank": low_rank,
    "attention": attention,
    "late": late,
    "late, learned": late_learned,
    "late, product": late_product,
    "film": film,
    "moe": experts(2),
    "moe, one expert": experts(1),
    "multiplicative": multiplicative,
    "multiplicative, low rank": multiplicative_low_rank,
    "mixer": mixer,
    "orthogonal": orthogonal,
}


@pytest.mark.parametrize("name", FORWARD)
def test_a_fusion_computes_what_its_paper_writes(name):
    draw = np.random.default_rng(1)
    seen, present = rows(ROWS[name].modalities)
    params = jax.tree.map(lambda x: draw.normal(size=x.shape).astype(np.float32), variables(name))
    _, outputs = jax.device_get(program(name)(params, seen, present))
    if "attentions.fusion.0" in outputs:
        outputs["attentions from the class token"] = outputs["attentions.fusion.0"][:, :, 0]
    wide = jax.tree.map(lambda x: x.astype(float), params).get("params", {}).get("fusion", {})
    widths = {m: seen[f"features.{m}"].shape[1] for m in module(name).order}
    for i in range(2 ** len(widths)):
        features = {m: seen[f"features.{m}"][i].astype(float) for m in widths if present[m][i]}
        for n, expected in FORWARD[name](wide, features, widths).items():
            np.testing.assert_allclose(outputs[n][i], expected, rtol=1e-4, atol=1e-5, err_msg=f"{n}, {[*features]}")


@pytest.mark.parametrize("name", ["low rank", "tensor fusion", "multiplicative, low rank"])
def test_products_of_modalities_start_at_the_scale_of_the_features(name):
    """Over seeds, whichever modalities are present; a product of small factors would vanish."""
    seen, present = rows(ROWS[name].modalities)
    draw = np.random.default_rng(2)
    seen = {n: draw.normal(size=x.shape).astype(np.float32) for n, x in seen.items()}

    @jax.jit
    def run(seeds, seen, present):
        def one(seed):
            key = jax.random.key(seed)
            outputs: Any = module(name).apply(module(name).init(key, seen, present, {}), seen, present, {})
            return outputs["fused"]

        return jax.lax.map(one, seeds)

    fused = run(np.arange(200), seen, present)
    size = np.sqrt((fused**2).mean((0, 2)))
    assert (size[1:] > 0.25).all() and (size < 3).all(), size
