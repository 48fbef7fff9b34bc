"""Compile and step time of every fusion, in a model and alone; and beside the same fusions of published packages.

`python -m benchmarks.fusions` prints a table: a step of a `Multimodal` model of audio and image (value, gradients,
AdamW), and one of the fusion alone (value, gradients of features and parameters, SGD). Programs take turns in one
process, and their times are medians over rounds, in CPU seconds: pin the process to one core (`taskset -c 0`), where
they are those of a clock on the wall without other load. `--peers` adds a second table, see `fusion_peers.py`, which
names what to install.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import mmkd_jax as mmkd
from benchmarks.measure import machine, print_table

ROWS, WIDTH, HEADS, CLASSES, PIXELS, BANDS = 64, 64, 4, 10, 16, 8
TOKENS = {"audio": 24, "image": 16}
SLICE, RATE = 0.3, 1e-4  # seconds of a turn; learning rate
CTX = mmkd.StepContext(0, jax.random.key(0), train=True)

f = mmkd.models.fusion
FUSIONS = {
    "Concat": f.Concat(),
    "Sum": f.Sum(WIDTH),
    "Gated": f.Gated(WIDTH),
    "GMU": f.GMU(WIDTH),
    "FiLM": f.FiLM("audio", "image", WIDTH),
    "Multiplicative": f.Multiplicative(WIDTH),
    "Multiplicative, rank 64": f.Multiplicative(WIDTH, 64),
    "TensorFusion": f.TensorFusion(16),
    "LowRank": f.LowRank(WIDTH),
    "Attention": f.Attention(WIDTH, HEADS),
    "Late": f.Late(CLASSES, "learned"),
    "MoE": f.MoE(4, WIDTH),
    "Mixer": f.Mixer(WIDTH),
    "Orthogonal": f.Orthogonal(WIDTH),
    "Bottleneck": f.Bottleneck(2, 4, WIDTH, HEADS),
    "CrossModal": f.CrossModal(2, 1, WIDTH, HEADS),
    "Perceiver": f.Perceiver(8, 2, WIDTH, HEADS),
}


class Inputs(NamedTuple):
    """What encoders give, by modality: features [b, d] and tokens [b, l, d]."""

    features: dict[str, Any]
    tokens: dict[str, Any]


class Program(NamedTuple):
    """A compiled step `(state, inputs) -> (state, …)`, with its state; the state is donated."""

    call: Callable
    state: Any
    inputs: Any


def draw(tokens: Mapping[str, int]) -> Inputs:
    """Made-up features and tokens."""
    keys = iter(jax.random.split(jax.random.key(1), 2 * len(tokens)))
    features = {m: jax.random.normal(next(keys), (ROWS, WIDTH)) for m in tokens}
    return Inputs(features, {m: jax.random.normal(next(keys), (ROWS, n, WIDTH)) for m, n in tokens.items()})


def arguments_of(inputs: Inputs, present=None) -> tuple:
    """Arguments of a fusion; all modalities are present by default."""
    tap = mmkd.Taps({})
    for m, x in inputs.tokens.items():
        tap(f"tokens.{m}", x)
    return inputs.features, present or {m: jnp.ones(ROWS, bool) for m in inputs.features}, tap


def fuse(fusion, params, inputs: Inputs, present=None):
    """The result of a fusion alone."""
    return fusion.apply({"params": params}, *arguments_of(inputs, present))


def parameters(fusion, inputs: Inputs):
    """The parameters of a fusion alone."""
    return fusion.init(jax.random.key(0), *arguments_of(inputs)).get("params", {})


def loss_of(fused):
    """A loss whose gradient with respect to the result is not constant."""
    return (fused**2).mean() + fused[:, 0].mean()


def alone(fusion, inputs: Inputs) -> tuple[Callable, tuple]:
    """A step of the fusion alone, and its arguments."""

    def step(params, inputs):
        value, (own, others) = jax.value_and_grad(lambda p, x: loss_of(fuse(fusion, p, x)), (0, 1))(params, inputs)
        return jax.tree.map(lambda p, g: p - RATE * g, params, own), value, others

    return step, (parameters(fusion, inputs), inputs)


def model_step(fusion, batch) -> tuple[Callable, tuple]:
    """A step of a model with the fusion, and its arguments."""
    encoders = {
        "audio": mmkd.models.AudioTDNN((WIDTH,), reach=1),
        "image": mmkd.models.ImageCNN((WIDTH,), 4),
    }
    classes = None if getattr(fusion, "output", "features") == "logits" else CLASSES
    model = mmkd.linen(mmkd.models.Multimodal(encoders, classes, fusion=fusion))
    optimizer = optax.adamw(RATE)
    variables = dict(jax.jit(model.init)(jax.random.key(0), batch))
    params = variables.pop("params")

    def step(state, batch):
        params, rest, moments = state

        def loss(params):
            outputs, rest_after = model.apply({"params": params, **rest}, batch, CTX, {})
            scores = optax.softmax_cross_entropy_with_integer_labels(outputs["logits"], batch["label"])
            return scores.mean(), rest_after

        (value, rest), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, moments = optimizer.update(grads, moments, params)
        return (optax.apply_updates(params, updates), rest, moments), value

    return step, ((params, variables, optimizer.init(params)), batch)


def rows() -> dict[str, jax.Array]:
    """A batch of sounds, of which a frame in two gives a token, and images."""
    key = jax.random.key(2)
    return {
        "audio": jax.random.normal(key, (ROWS, 2 * TOKENS["audio"], BANDS)),
        "image": jax.random.normal(key, (ROWS, PIXELS, PIXELS, 3)),
        "label": jax.random.randint(key, (ROWS,), 0, CLASSES),
        "example_id": jnp.arange(ROWS),
    }


def compiled(step: Callable, arguments: tuple) -> tuple[Program, float]:
    """The program, and the CPU seconds that tracing and compiling it take."""
    begun = time.process_time()
    call = jax.jit(step, donate_argnums=0).lower(*arguments).compile()
    return Program(call, *arguments), time.process_time() - begun


def turn(program: Program) -> tuple[Program, float]:
    """The program after about a slice of steps, each awaited, and the CPU seconds of one."""
    call, state, inputs = program
    state = jax.block_until_ready(call(state, inputs))[0]
    begun, count = time.process_time(), 0
    while time.process_time() - begun < SLICE:
        state = jax.block_until_ready(call(state, inputs))[0]
        count += 1
    return Program(call, state, inputs), (time.process_time() - begun) / count


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=7)
    words.add_argument("--peers", action="store_true")
    words.add_argument("--only", help="this fusion alone")
    given = words.parse_args()
    batch, inputs = rows(), draw(TOKENS)
    programs, seconds = {}, {}
    for name, fusion in FUSIONS.items():
        if given.only in (None, name):
            for kind, made in {"model": model_step(fusion, batch), "alone": alone(fusion, inputs)}.items():
                programs[name, kind], seconds[name, kind] = compiled(*made)
    taken = {k: [] for k in programs}
    for _ in range(given.rounds):
        for k in programs:
            programs[k], each = turn(programs[k])
            taken[k].append(1e3 * each)

    def line(name):
        params = parameters(FUSIONS[name], inputs)
        result = jax.eval_shape(lambda: fuse(FUSIONS[name], params, inputs))
        times = [x for k in ("model", "alone") for x in (seconds[name, k], statistics.median(taken[name, k]))]
        sizes = f"{sum(x.size for x in jax.tree.leaves(params)):,}", f"{result.shape[1]}"
        return name, *sizes, *(f"{x:.2f}" for x in times)

    print(f"{machine()}, {given.rounds} rounds\n")
    header = ("fusion", "parameters", "width", "model: compile, s", "step, ms", "alone: compile, s", "step, ms")
    print_table(header, (line(n) for n in FUSIONS if (n, "alone") in programs))
    if given.peers:
        from benchmarks import fusion_peers  # needs PyTorch

        print()
        fusion_peers.compare(given.rounds, given.only)


if __name__ == "__main__":
    main()
