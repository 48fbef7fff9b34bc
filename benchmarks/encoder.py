"""Forward speed of a pretrained text encoder, all-MiniLM-L6-v2, beside PyTorch with the same weights.

`pip install -e ".[parity]"`, then `python -m benchmarks.encoder` (`--rounds N` for steadier figures). The ways take
turns in one process; a ratio is the median over rounds of sentences per second in the same round. All give the same
sentence embeddings: how far they are apart is printed, too.
"""

import argparse
import os
import statistics
import tempfile
import time

import jax
import numpy as np
import torch
import transformers

import mmkd_jax as mmkd
from benchmarks.measure import machine, print_table

SENTENCES, LENGTH, SLICE = 32, 64, 2.5


def theirs(model, batch):
    """Masked means of the last hidden state."""
    ids, mask = (torch.as_tensor(batch[f"text.{k}"]) for k in ("ids", "mask"))

    def run():
        with torch.inference_mode():
            last = model(input_ids=ids.long(), attention_mask=mask.long()).last_hidden_state
            return ((last * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).numpy()

    return run


def ours(folder, batch, **switches):
    """The same."""
    loaded = mmkd.pretrained.load(folder, **switches)
    model, ctx = mmkd.linen(loaded.module), mmkd.StepContext(0, jax.random.key(0), train=False)
    variables = jax.device_put(loaded.variables)
    program = jax.jit(lambda v, b: model.apply(v, b, ctx, {})[0]["features.text"])
    return lambda: np.asarray(program(variables, batch))


def speed(run):
    """Sentences per second over a slice of time."""
    begun, calls = time.perf_counter(), 0
    while time.perf_counter() - begun < SLICE:
        run()
        calls += 1
    return calls * SENTENCES / (time.perf_counter() - begun)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(os.cpu_count() or 1)
    draw = np.random.default_rng(0)
    lengths = draw.integers(LENGTH // 2, LENGTH + 1, SENTENCES)
    batch = {
        "text.ids": draw.integers(1000, 20_000, (SENTENCES, LENGTH)).astype(np.int32),
        "text.mask": np.arange(LENGTH)[None] < lengths[:, None],
        "example_id": np.arange(SENTENCES, dtype=np.int32),
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = mmkd.pretrained.packages.minilm(scratch)
        model = transformers.AutoModel.from_pretrained(folder).eval()  # its attention is PyTorch's fused one
        ways, starts, said = {}, {}, {}
        for name, make in {
            "PyTorch eager": lambda: theirs(model, batch),
            "torch.compile": lambda: theirs(torch.compile(model), batch),
            "mmkd_jax": lambda: ours(folder, batch),
            "mmkd_jax, scan": lambda: ours(folder, batch, scan=True),
        }.items():
            begun = time.perf_counter()
            ways[name] = make()
            said[name] = ways[name]()
            starts[name] = time.perf_counter() - begun
    taken = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            taken[name].append(speed(run))
    rows = []
    for name, each in taken.items():
        ratios = [statistics.median(a / b for a, b in zip(each, taken[peer], strict=True)) for peer in list(ways)[:2]]
        apart = np.abs(said[name] - said["PyTorch eager"]).max()
        figures = [f"{statistics.median(each):.0f}", *(f"{r:.2f}" for r in ratios)]
        rows.append((name, *figures, f"{starts[name]:.1f}", f"{apart:.0e}"))
    print_table(("", "sentences/s", "× eager", "× compile", "first call, s", "max. difference"), rows)
    print(f"\n{SENTENCES} sentences of {LENGTH // 2} to {LENGTH} tokens, float32, {rounds} rounds; {machine()}")


if __name__ == "__main__":
    main()
