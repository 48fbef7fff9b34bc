"""Training populations: MFH's γ sweep in one compiled program, and member by member.

`pip install -e '.[parity]'`, then `python -m benchmarks.population` (`--seeds N` for steadier figures). A member is a
teacher, a student and a distilled student of one seed, 1,000 full-batch epochs each, as in
`experiments/tables/mfh_gamma.py`, with the same rows and initial weights in all variants. Members per second by wall
clock, all variants in turn in each round; a ratio is the median over rounds. The last column is the largest difference
of any trained weight from PyTorch's, relative to the largest weight.
"""

import argparse
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F

import mmkd_jax as mmkd
from benchmarks.measure import difference, machine, print_table
from experiments.tables import mfh_gamma as paper

OVERLAP, ROUNDS = 6, 3
ONE, TWO = mmkd.models.mlp("x1", (2,)), mmkd.models.mlp("x2", (2,))
# teacher, student, distilled student
JOBS = (
    ({"student": ONE}, paper.task),
    ({"student": TWO}, paper.task),
    ({"teacher": ONE, "student": TWO}, mmkd.combine(task=paper.task, soft=paper.soft)),
)


def begun(seed):
    """Rows and the key of first weights."""
    plane, rows, _, first = jax.random.split(jax.random.key(seed), 4)
    return paper.draw(rows, jax.random.normal(plane, (paper.DECISIVE,)), paper.TRAIN, OVERLAP), first


def member(_, seed):
    """The weights of the three models."""
    rows, key = begun(seed)
    weights = []
    for models, objective in JOBS:
        learning = mmkd.Distillation(models, objective, optax.sgd(paper.RATE))
        given = {"teacher": weights[0]} if "teacher" in models else {}
        weights.append(mmkd.population.train(learning, lambda step: rows, paper.STEPS, key, given)["student"])
    return [w["params"]["layers"][0] for w in weights]


def looped(seeds):
    """Our jitted step, called from Python; compiled once for all members."""
    found = []
    for seed in seeds:
        rows, key = ROWS(seed)
        weights = []
        for (initialize, step), (models, _) in zip(STEPS, JOBS, strict=True):
            given = {"teacher": {"params": weights[0]}} if "teacher" in models else {}
            state, frozen = initialize(key, rows, given)
            for _ in range(paper.STEPS):
                state, _ = step(state, frozen, rows)
            weights.append(state.params["student"])
        found.append([w["layers"][0] for w in weights])
    return found


def steps(models, objective):
    """First state and step of a job."""
    learning = mmkd.Distillation(models, objective, optax.sgd(paper.RATE))
    return jax.jit(lambda key, rows, given: mmkd.init_state(learning, rows, key, given)), jax.jit(
        mmkd.make_step(learning)
    )


def eager(seeds):
    """PyTorch, from the same rows and first weights."""
    found = []
    for seed in seeds:
        rows, key = ROWS(seed)
        x = {k: torch.from_numpy(np.array(rows[k])) for k in ("x1", "x2")}
        label = torch.from_numpy(np.array(rows["label"])).long()

        def fit(name, initialize, x=x, label=label, rows=rows, key=key, teacher=None):
            first = initialize(key, rows, {} if teacher is None else {"teacher": TEACHER})[0].params["student"][
                "layers"
            ][0]
            net = torch.nn.Linear(x[name].shape[1], 2)
            with torch.no_grad():
                net.weight.copy_(torch.from_numpy(np.array(first["weight"]).T))
                net.bias.copy_(torch.from_numpy(np.array(first["bias"])))
            optimizer = torch.optim.SGD(net.parameters(), lr=paper.RATE)
            for _ in range(paper.STEPS):
                logits = net(x[name])
                loss = F.cross_entropy(logits, label)
                if teacher is not None:
                    with torch.no_grad():
                        told = F.softmax(teacher(x["x1"]), 1)
                    loss = loss + F.kl_div(F.log_softmax(logits, 1), told)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            return net

        (one, _), (two, _), (three, _) = STEPS
        teacher, alone = fit("x1", one), fit("x2", two)
        nets = teacher, alone, fit("x2", three, teacher=teacher)
        found.append([{"weight": n.weight.detach().numpy().T, "bias": n.bias.detach().numpy()} for n in nets])
    return found


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--seeds", type=int, default=8, help="of the slow ways; the populations take 25 times as many")
    words.add_argument("--torch-threads", type=int, default=1, help="of PyTorch")
    parsed = words.parse_args()
    count = parsed.seeds
    torch.set_num_threads(parsed.torch_threads)
    mmkd.sharding.device_per_core()
    ROWS, STEPS = jax.jit(begun), [steps(*job) for job in JOBS]
    TEACHER = {"params": ONE.init(jax.random.key(0), begun(0)[0])["params"]}
    single = jax.jit(lambda seed: member((), seed))
    few, many = np.arange(count, dtype=np.int32), np.arange(25 * count, dtype=np.int32)
    ways = {
        "PyTorch eager": (eager, few),
        "our step, from Python": (looped, few),
        "our members, one by one": (lambda seeds: [jax.block_until_ready(single(s)) for s in seeds], few),
    }
    for width in (1, 4, 20):
        program = mmkd.population.members(member, width)
        ways[f"a population, {width} at a time"] = (lambda seeds, p=program: jax.block_until_ready(p((), seeds)), many)
    outcome, speed = {}, {name: [] for name in ways}
    for name, (way, seeds) in ways.items():
        print(f"compiling: {name}", file=sys.stderr)
        found = way(seeds[: len(few)])  # compiles
        outcome[name] = [jax.tree.map(lambda *x: np.stack(x), *found)] if name in list(ways)[:3] else [found]
        way(seeds)
    for _ in range(ROUNDS):
        for name, (way, seeds) in ways.items():
            initialize = time.perf_counter()
            way(seeds)
            speed[name].append(len(seeds) / (time.perf_counter() - initialize))
    print(machine())

    def row(name):
        def times(other):
            return statistics.median(a / b for a, b in zip(speed[name], speed[other], strict=True))

        pairs = zip(jax.tree.leaves(outcome[name]), jax.tree.leaves(outcome["PyTorch eager"]), strict=True)
        apart = max(float(difference(jnp.asarray(a), jnp.asarray(b))) for a, b in pairs)
        each = statistics.median(speed[name])
        first, second = list(ways)[:2]
        return name, f"{each:.2f}", f"{times(first):.1f}", f"{times(second):.1f}", f"{apart:.0e}"

    print_table(("", "members/s", "× PyTorch eager", "× our step, from Python", "max. difference"), map(row, ways))
