"""Fusions alone beside those of published packages: one forward and backward pass and SGD, from the same weights.

Install the extra `peers`; easydict, iopath, nvidia-ml-py, pandas and scikit-learn; and with `pip install --no-deps`
pykale 0.2.1, torchmultimodal-nightly 2024.4.1, mlp-mixer-pytorch 0.3.1 and mmsa 2.2.1, as PyKale requires PyTorch 2.6
or older, and torchmultimodal an old attrs. Then run `python -m benchmarks.fusions --peers`. Peers that are not
installed are left out.

Every peer but MMSA's has our weights and computes the same function. "difference" is the largest one of the results
and of the gradients of the features, relative to the largest value. "one absent" is that of the results in the rows
without one modality, of which the peer sees zeros, or a mask if it takes one; "all absent" likewise. "parameters" are
those that the peer has registered, which are those that an optimizer trains and a checkpoint has.
"""

import importlib
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

import mmkd_jax as mmkd
from benchmarks import fusions
from benchmarks.fusions import HEADS, RATE, ROWS, SLICE, WIDTH, Inputs
from benchmarks.measure import difference, print_table

f = mmkd.models.fusion
LATENTS, RANK = 8, 4
PAIR = fusions.TOKENS
TRIPLE = PAIR | {"text": 20}
Weights = dict[str, Any]  # of ours, by path


def put(place: nn.Parameter, value) -> None:
    """Our weight into a parameter."""
    with torch.no_grad():
        place.copy_(torch.tensor(np.asarray(value)).reshape(place.shape))


def linear(layer: nn.Linear, weights: Weights, name: str) -> nn.Linear:
    """The same with our weights."""
    put(layer.weight, weights[f"{name}/kernel"].T)
    if layer.bias is not None:
        put(layer.bias, weights[f"{name}/bias"])
    return layer


def norm(layer: nn.LayerNorm, weights: Weights, name: str) -> nn.LayerNorm:
    """The same with our weights, and with Flax's epsilon."""
    put(layer.weight, weights[f"{name}/scale"])
    put(layer.bias, weights[f"{name}/bias"])
    layer.eps = 1e-6
    return layer


class OfDict(nn.Module):
    """A module of a dict of features."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, features, tokens, present):
        return self.module(features)


class OfList(OfDict):
    """A module of a list of features."""

    def forward(self, features, tokens, present):
        return self.module([features[m] for m in sorted(features)])


def concat(weights: Weights) -> nn.Module:
    """torchmultimodal's."""
    return OfDict(importlib.import_module("torchmultimodal.modules.fusions.concat_fusion").ConcatFusionModule())


def gated(weights: Weights) -> nn.Module:
    """torchmultimodal's; its gates read all features, so that of our weights its matrix has those on the diagonal."""
    made = importlib.import_module("torchmultimodal.modules.fusions.attention_fusion").AttentionFusionModule(
        dict.fromkeys(PAIR, WIDTH), WIDTH
    )
    put(made.attention[0].weight, jax.scipy.linalg.block_diag(*(weights[f"gate_{m}/kernel"].T for m in sorted(PAIR))))
    put(made.attention[0].bias, jnp.concatenate([weights[f"gate_{m}/bias"] for m in sorted(PAIR)]))
    for m, layer in made.encoding_projection.items():
        linear(layer, weights, f"value_{m}")
    return OfDict(made)


def multiplicative(weights: Weights) -> nn.Module:
    """PyKale's, from MultiBench."""
    kale = importlib.import_module("kale.embed.multimodal_fusion")
    made = kale.BimodalInteractionFusion((WIDTH, WIDTH), WIDTH, "matrix")
    for place, name in {"W": "bilinear", "U": "linear_audio/kernel", "V": "linear_image/kernel", "b": "bias"}.items():
        put(getattr(made, place), weights[name])
    return OfList(made)


def low_rank(weights: Weights) -> nn.Module:
    """PyKale's, from MultiBench."""
    kale = importlib.import_module("kale.embed.multimodal_fusion")
    made = kale.LowRankTensorFusion((WIDTH, WIDTH), WIDTH, RANK)
    for m, factor in zip(sorted(PAIR), made.factors, strict=True):
        both = jnp.concatenate([weights[f"factor_{m}/bias"][None], weights[f"factor_{m}/kernel"]])
        put(factor, both.reshape(WIDTH + 1, RANK, WIDTH).transpose(1, 0, 2))
    put(made.fusion_weights, weights["weight"])
    put(made.fusion_bias, weights["bias"])
    return OfList(made)


class Projected(nn.Module):
    """Projected features as tokens."""

    def __init__(self, weights: Weights):
        super().__init__()
        self.values = nn.ModuleDict({m: linear(nn.Linear(WIDTH, WIDTH), weights, f"value_{m}") for m in sorted(PAIR)})

    def forward(self, features):
        return torch.stack([layer(features[m]) for m, layer in self.values.items()], 1)


class Mixer(nn.Module):
    """lucidrains', without its patches and classifier."""

    def __init__(self, weights: Weights):
        super().__init__()
        count, grown = len(PAIR), 2 * len(PAIR)
        whole = importlib.import_module("mlp_mixer_pytorch").MLPMixer(
            image_size=(1, count), channels=1, patch_size=1, dim=WIDTH, depth=1, num_classes=1,
            expansion_factor=grown / WIDTH, expansion_factor_token=2,
        )  # fmt: skip
        self.project, self.layers = Projected(weights), whole[2:-1]
        for block, name in zip(self.layers[0], ("modalities", "channels"), strict=True):
            norm(block.norm, weights, f"norm_{name}_0")
            for layer, end in ((block.fn[0], "grow"), (block.fn[3], "shrink")):
                linear(layer, weights, f"{name}_0_{end}")
        norm(self.layers[1], weights, "norm")

    def forward(self, features, tokens, present):
        return self.layers(self.project(features))


class Attention(nn.Module):
    """PyTorch's Transformer encoder."""

    def __init__(self, weights: Weights):
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True
        )
        self.project, self.first = Projected(weights), nn.Parameter(torch.zeros(WIDTH))
        self.layers = nn.TransformerEncoder(layer, 1, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        own = self.layers.layers[0]
        assert isinstance(own, nn.TransformerEncoderLayer) and self.layers.norm is not None
        at = next(k for k in weights if k.endswith("/query/kernel")).removesuffix("/query/kernel")
        put(self.first, weights["class_token"])
        put(
            own.self_attn.in_proj_weight,
            jnp.concatenate([weights[f"{at}/{n}/kernel"].T for n in ("query", "key", "value")]),
        )
        put(own.self_attn.in_proj_bias, jnp.concatenate([weights[f"{at}/{n}/bias"] for n in ("query", "key", "value")]))
        linear(own.self_attn.out_proj, weights, f"{at}/out")
        norm(own.norm1, weights, f"{at}/norm_attention")
        norm(own.norm2, weights, f"{at}/norm_output")
        linear(own.linear1, weights, f"{at}/grow")
        linear(own.linear2, weights, f"{at}/shrink")
        norm(self.layers.norm, weights, "norm")

    def forward(self, features, tokens, present):
        x = self.project(features)
        absent = torch.stack([~present[m] for m in sorted(present)], 1)
        absent = torch.cat([torch.zeros_like(absent[:, :1]), absent], 1)
        return self.layers(torch.cat([self.first.expand(len(x), 1, WIDTH), x], 1), src_key_padding_mask=absent)[:, 0]


class Perceiver(nn.Module):
    """transformers', with one cross-attention and one layer."""

    def __init__(self, weights: Weights):
        super().__init__()
        package = importlib.import_module("transformers.models.perceiver")
        config = package.PerceiverConfig(
            num_latents=LATENTS, d_latents=WIDTH, d_model=WIDTH, num_blocks=1, num_self_attends_per_block=1,
            num_self_attention_heads=HEADS, num_cross_attention_heads=HEADS, attention_probs_dropout_prob=0.0,
            self_attention_widening_factor=4, cross_attention_widening_factor=4,
        )  # fmt: skip
        self.model = importlib.import_module("transformers").PerceiverModel(config)
        self.embed = nn.ModuleDict(
            {m: linear(nn.Linear(WIDTH, WIDTH, bias=False), weights, f"embed_{m}") for m in sorted(PAIR)}
        )
        self.kinds = nn.ParameterDict({m: nn.Parameter(torch.zeros(WIDTH)) for m in sorted(PAIR)})
        for m in PAIR:
            put(self.kinds[m], weights[f"modality_{m}"])
        # the sines of Vaswani et al., which are not weights
        angles = np.arange(max(PAIR.values()))[:, None] * np.geomspace(1, 1e-4, WIDTH // 2)
        self.register_buffer("sines", torch.tensor(np.concatenate([np.sin(angles), np.cos(angles)], 1)).float())
        self.norm = norm(nn.LayerNorm(WIDTH), weights, "norm")
        put(self.model.embeddings.latents, weights["latents"])
        for layer, name in (
            (self.model.encoder.cross_attention, "cross_0"),
            (self.model.encoder.self_attends[0], "layer_0"),
        ):
            attention = layer.attention.self
            norm(attention.layernorm1, weights, f"{name}/norm_queries")
            if name == "cross_0":
                norm(attention.layernorm2, weights, f"{name}/norm_keys")
            linear(attention.query, weights, f"{name}/query")
            linear(
                attention.key, weights | {f"{name}/key/bias": jnp.zeros(WIDTH)}, f"{name}/key"
            )  # undone by the softmax
            linear(attention.value, weights, f"{name}/value")
            linear(layer.attention.output.dense, weights, f"{name}/out")
            norm(layer.layernorm, weights, f"{name}/norm_output")
            linear(layer.mlp.dense1, weights, f"{name}/grow")
            linear(layer.mlp.dense2, weights, f"{name}/shrink")

    def forward(self, features, tokens, present):
        x = [layer(tokens[m]) + self.sines[: PAIR[m]] + self.kinds[m] for m, layer in self.embed.items()]
        mask = torch.cat([present[m][:, None].expand(ROWS, PAIR[m]) for m in sorted(PAIR)], 1)
        latents = self.model(inputs=torch.cat(x, 1), attention_mask=mask.float()).last_hidden_state
        return self.norm(latents).mean(1)


class CrossModal(nn.Module):
    """MMSA's, of text, audio and video, before the last two layers; it has at least three layers of self-attention."""

    def __init__(self, weights: Weights):
        super().__init__()
        names = ("attn_dropout", "attn_dropout_a", "attn_dropout_v", "relu_dropout", "embed_dropout", "res_dropout")
        options = dict.fromkeys((*names, "output_dropout", "text_dropout"), 0.0) | dict.fromkeys(
            [f"conv1d_kernel_size_{m}" for m in "lav"], 1
        )
        options |= {"use_bert": False, "attn_mask": False, "num_classes": 2, "train_mode": "classification"}
        options |= {"dst_feature_dim_nheads": (WIDTH, HEADS), "feature_dims": (WIDTH,) * 3, "nlevels": 1}
        package = importlib.import_module("MMSA.models.singleTask.MULT")
        self.model = package.MULT(importlib.import_module("easydict").EasyDict(options))
        for name in ("proj_l", "proj_a", "proj_v", "proj1", "proj2", "out_layer"):  # not trained here
            getattr(self.model, name).requires_grad_(False)

    def forward(self, features, tokens, present):
        return self.model(*(tokens[m] for m in ("text", "audio", "image")))["Feature_f"]


class Peer(NamedTuple):
    """A package's fusion and ours."""

    package: str
    make: Callable[[Weights], nn.Module]
    ours: Any
    same: bool = True


PEERS = {
    "Concat": Peer("torchmultimodal", concat, f.Concat()),
    "Gated": Peer("torchmultimodal", gated, f.Gated(WIDTH)),
    "Multiplicative": Peer("kale", multiplicative, f.Multiplicative(WIDTH)),
    "LowRank": Peer("kale", low_rank, f.LowRank(WIDTH, RANK)),
    "Mixer": Peer("mlp_mixer_pytorch", Mixer, f.Mixer(WIDTH)),
    "Attention": Peer("torch", Attention, f.Attention(WIDTH, HEADS)),
    "Perceiver": Peer("transformers", Perceiver, f.Perceiver(LATENTS, 1, WIDTH, HEADS)),
    "CrossModal": Peer("MMSA", CrossModal, f.CrossModal(1, 3, WIDTH, HEADS, "last"), same=False),
}


def tensors(inputs: Inputs, absent=()) -> tuple[dict, dict, dict]:
    """Arguments of a peer: what is absent is zero, and its mask False."""
    both = []
    for each in inputs:
        zeroed = {m: np.array(np.zeros_like(x) if m in absent else x) for m, x in each.items()}
        both.append({m: torch.tensor(x, requires_grad=True) for m, x in zeroed.items()})
    return both[0], both[1], {m: torch.full((ROWS,), m not in absent) for m in inputs.features}


def torch_step(module: nn.Module, inputs: Inputs, compiled: bool) -> Callable[[], None]:
    """A step with gradients of parameters and features."""
    arguments = tensors(inputs)
    others = getattr(module.module, "factors", []) if isinstance(module, OfList) else []  # PyKale's are not registered
    optimizer = torch.optim.SGD([*module.parameters(), *others, torch.zeros((), requires_grad=True)], RATE)

    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self, *arguments):
            return fusions.loss_of(self.module(*arguments))

    loss_of = torch.compile(Loss()) if compiled else Loss()
    leaves = [x for each in arguments[:2] for x in each.values()]

    def step():
        loss_of(*arguments).backward()
        optimizer.step()
        optimizer.zero_grad()
        for x in leaves:
            x.grad = None

    return step


def slice_of(step: Callable[[], None]) -> float:
    """CPU seconds of a step, over a slice of time."""
    step()
    begun, count = time.process_time(), 0
    while time.process_time() - begun < SLICE:
        step()
        count += 1
    return (time.process_time() - begun) / count


def apart(module: nn.Module, fusion, params, inputs: Inputs) -> list[str]:
    """How far results and gradients of features are from ours, and results without modalities."""
    leaves = tensors(inputs)
    theirs = module(*leaves)
    fusions.loss_of(theirs).backward()
    grads = jax.grad(lambda x: fusions.loss_of(fusions.fuse(fusion, params, x)))(inputs)
    found = [difference(jnp.array(theirs.detach().numpy()), fusions.fuse(fusion, params, inputs))]
    for own, other in zip(grads, leaves[:2], strict=True):
        found += [
            difference(jnp.array(x.grad.numpy()), own[m])
            for m, x in other.items()
            if x.grad is not None and jnp.any(own[m])
        ]
    figures = [max(found)]
    for absent in (("audio",), tuple(PAIR)):
        present = {m: jnp.full(ROWS, m not in absent) for m in inputs.features}
        with torch.no_grad():
            theirs = module(*tensors(inputs, absent))
        own = fusions.fuse(fusion, params, inputs, present)
        scale = jnp.max(jnp.abs(own))
        figures.append(float(jnp.max(jnp.abs(jnp.array(theirs.numpy()) - own)) / jnp.where(scale > 0, scale, 1)))
    return [f"{x:.0e}" if x else "0" for x in figures]


def cpu() -> float:
    """CPU seconds of this process and of the C++ compilers that it called."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def line(name: str, peer: Peer, rounds: int) -> tuple[str, ...]:
    """A row of the table."""
    inputs = fusions.draw(PAIR if peer.same else TRIPLE)
    params = fusions.parameters(peer.ours, inputs)
    weights = {"/".join(k.key for k in at): jnp.array(v) for at, v in jax.tree.leaves_with_path(params)}
    module = peer.make(weights).train()
    counts = [
        sum(x.size for x in jax.tree.leaves(params)),
        sum(x.numel() for x in module.parameters() if x.requires_grad),
    ]
    differences = apart(module, peer.ours, params, inputs) if peer.same else ["–"] * 3
    program, seconds = fusions.compiled(*fusions.alone(peer.ours, inputs))
    eager = torch_step(module, inputs, compiled=False)
    begun = cpu()
    compiled = torch_step(peer.make(weights).train(), inputs, compiled=True)
    compiled()
    took, taken = cpu() - begun, []
    for _ in range(rounds):
        program, ours = fusions.turn(program)
        taken.append((ours, slice_of(eager), slice_of(compiled)))
    ours = f"{1e3 * statistics.median(x[0] for x in taken):.2f}"
    ratios = [statistics.median(x[i] / x[0] for x in taken) for i in (1, 2)]
    figures = [f"{x:.2f}" for x in ratios] + [f"{x:.1f}" for x in (seconds, took)]
    return f"{name}, {peer.package}", ours, *figures, f"{counts[0]:,}", f"{counts[1]:,}", *differences


def compare(rounds: int, only: str | None = None) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    options: Any = importlib.import_module("torch._inductor.config")
    options.force_disable_caches, options.compile_threads = True, 1
    torch.compile(lambda x: x + 1)(torch.zeros(1))  # imports the compiler
    wanted = {name: peer for name, peer in PEERS.items() if only in (None, name)}
    missing = sorted({p.package for p in wanted.values() if importlib.util.find_spec(p.package) is None})
    header = (
        "ours, ms",
        "eager ÷ ours",
        "compile ÷ ours",
        "compilation, s: ours",
        "theirs",
        "parameters: ours",
        "theirs",
    )
    rows = (line(name, peer, rounds) for name, peer in wanted.items() if peer.package not in missing)
    print_table(("fusion", *header, "difference", "one absent", "all absent"), rows)
    print(f"\ntorch {torch.__version__}; not installed: {', '.join(missing) or 'none'}")
