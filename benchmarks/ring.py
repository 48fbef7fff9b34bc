"""Contrastive losses over eight devices, gathered and in a ring: temporaries, time, differences.

`python -m benchmarks.ring` prints the table (`--rounds N` for steadier ratios). Value and gradients by the student's
and the teacher's embeddings are computed, each device with its share of the rows. Temporaries are XLA's own count for
one device, without inputs and outputs. The devices are virtual and share this machine's cores, so that a time says
what is computed and copied, not what a network would cost. The two forms are timed in turns; a ratio is the median over
rounds of ring ÷ gathered: by CPU seconds of the process, and by wall clock over those rounds (their number in brackets)
in which other processes took at most 10 % of the machine.
"""

import argparse
import functools
import statistics

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import mmkd_jax as mmkd
from benchmarks.measure import MIB, QUIET, difference, foreign, machine, print_table, spent, temporaries

DEVICES, ROWS, WIDTH = 8, 4096, 256
LOSSES = {
    "InfoNCE": mmkd.losses.info_nce,
    "InfoNCE, both directions": functools.partial(mmkd.losses.info_nce, symmetric=True),
    "SigLIP": mmkd.losses.siglip,
}
HEADER = ("loss", "gathered MiB", "ring MiB", "saving", "CPU", "wall", "other load", "Δ value", "Δ gradient")


def compiled(loss, ring, mesh, inputs):
    """Value and gradients per device."""
    axis_name = mmkd.sharding.AXIS

    def each(*rows):
        def share(student, teacher):
            return mmkd.total({"loss": mmkd.Term(loss(student, teacher, axis_name=axis_name, ring=ring))}, axis_name)[0]

        part, slopes = jax.value_and_grad(share, (0, 1))(*rows)
        return jax.lax.psum(part, axis_name), slopes

    specs = (P(axis_name), P(axis_name))
    local = jax.shard_map(each, mesh=mesh, in_specs=specs, out_specs=(P(), specs), check_vma=False)
    return jax.jit(local).lower(*inputs).compile()


def row(name, rounds, mesh, inputs):
    """One line of the table."""
    both = [compiled(LOSSES[name], ring, mesh, inputs) for ring in (False, True)]
    sizes = [temporaries(p) / MIB for p in both]
    (value, slopes), (our_value, our_slopes) = (p(*inputs) for p in both)
    gaps = difference(our_value, value), max(map(difference, our_slopes, slopes))
    seen = [[spent(p, inputs) for p in both] for _ in range(rounds)]
    ratios = [[ours[i] / plain[i] for plain, ours in seen] for i in range(2)]
    others = [foreign(r) for r in seen]
    quiet = [ratio for ratio, share in zip(ratios[0], others, strict=True) if not share > QUIET]
    wall = f"{statistics.median(quiet):.2f} ({len(quiet)})" if quiet else "–"
    state = [*(f"{s:.2f}" for s in sizes), f"{sizes[0] / sizes[1]:.1f}×"]
    time_ = [f"{statistics.median(ratios[1]):.2f}", wall, f"{statistics.median(others):.0%}"]
    return [name, *state, *time_, *(f"{g:.0e}" for g in gaps)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args().rounds
    jax.config.update("jax_num_cpu_devices", DEVICES)
    mmkd.sharding.threads_for_devices()
    mesh = mmkd.sharding.make_mesh()
    rows = NamedSharding(mesh, P(mmkd.sharding.AXIS))
    keys = jax.random.split(jax.random.key(0))
    inputs = [jax.device_put(jax.random.normal(k, (ROWS, WIDTH), jnp.float32), rows) for k in keys]
    print(f"{machine()}; {DEVICES} virtual devices, {ROWS} rows × {WIDTH}, float32, {rounds} rounds", end="\n\n")
    print_table(HEADER, (row(name, rounds, mesh, inputs) for name in LOSSES))


if __name__ == "__main__":
    main()
