"""AV-digits under attack: which ways to train keep a student that only hears from being fooled.

    mmkd run experiments/av_digits_robust.py

The data, the teacher and the student are those of av_digits.py: 500 labelled pairs, 5,500 without a label. *labels*
and *trades* learn from labels alone, *kd*, *rslad* and *adaad* from the teacher's answers on all pairs; *ard* and *iad*
attack the label's loss and so see the labelled pairs only. All take the same number of steps and, where they attack,
of steps of the attack; those cost time. The teacher has not been trained against attacks. The best step is chosen by
clean accuracy on validation; the test split, with voices that nobody heard, is used once. The run folder then holds
robustness.md and robustness.json, copied to docs/: accuracy on the recordings as they are, and on those that PGD has
altered.

A level of the recorded log-mel spectrum is 2 dB: 1/255 where the model reads uint8 as [0, 1], and a recording has 40 of
them. The attack may move each of the 32 x 32 values by half a level, 1 dB: far less than the babble does, and enough to
fool a student that was not trained against it.
"""

import dataclasses
import json
import sys
from functools import partial

import jax
import optax

from mmkd_jax import attacks, cli, data, files, losses, methods, run_folder, runner
from mmkd_jax.evaluate.report import points, summarise
from mmkd_jax.evaluate.robustness import robustness
from mmkd_jax.evaluate.verdicts import verdict
from mmkd_jax.models import AudioTDNN, ImageMLP, Multimodal
from mmkd_jax.objective import Objective, combine, term
from mmkd_jax.part import Part
from mmkd_jax.tasks import classification
from mmkd_jax.views import linen

LEVEL = 1 / 255
RANGE = {"low": 0.0, "high": 40 * LEVEL}


@dataclasses.dataclass(frozen=True)
class Config:
    """Robust students."""

    seeds: int = 5
    """Runs of each part."""
    steps: int = 1_000
    """Updates of each student and of the teacher."""
    batch: int = 128
    """Rows of a batch."""
    learning_rate: float = 3e-3
    """Peak learning rate of the students; the teacher's is a third."""
    eps: float = 0.5
    """Radius of the attack, in levels of 2 dB."""
    attack: int = 3
    """Steps of the attack in training."""
    test_attack: int = 20
    """Steps of the attack on the test split."""


config = Config()
baseline = "kd"
ABOUT = """# Under attack

`mmkd run experiments/av_digits_robust.py` wrote this page ({made}; {seeds} seeds, {steps} steps, PGD-{attack} in
training). An audio-only student of 4,570 parameters on AV-digits: *labels*, *trades*, *ard* and *iad* see the 500
labelled pairs, as attacks on the label's loss need it, *kd*, *rslad* and *adaad* all 6,000. The attack moves each place
of the log-mel spectrum by at most 1 dB. Accuracy on 2,000 test pairs, mean ± standard error over the seeds. Nothing was
tuned, the teacher was not trained against attacks, and the best step is chosen by clean accuracy. The verdict is a
paired t-test at 95 % against *kd*. A wide range from the smallest to the largest seed means that not every
seed learned in these steps (chance is 10 %): such a mean is no verdict on the method; robustness.json has every seed.

"""
TASK = classification(10)
STUDENT = linen(Multimodal({"audio": AudioTDNN((16, 16))}, classes=10, width=16))


def parts(config: Config) -> dict[str, Part]:
    pairs = data.load("av_digits", "train")
    few, every = (data.Memory(d, config.batch) for d in (pairs.where("labelled"), pairs))
    shared = {
        "task": TASK,
        "validation": data.Memory(data.load("av_digits", "validation"), 500),
        "test": data.Memory(data.load("av_digits", "test"), 500),
        "steps": config.steps,
        "evaluate_every": max(1, min(50, config.steps // 20)),
        "save_every": max(1, config.steps // 4),
    }
    teacher = linen(Multimodal({"image": ImageMLP((128, 64)), "audio": AudioTDNN((64, 64))}, classes=10, width=64))
    schedule = optax.cosine_decay_schedule
    found = {
        "teacher": Part(
            models={"teacher": teacher},
            trained=("teacher",),
            objective=combine(task=TASK.objective("teacher")),
            optimizer=optax.adamw(schedule(config.learning_rate / 3, config.steps), weight_decay=1e-2),
            data=few,
            **shared,
        )
    }

    def student(rows: data.Memory, objective: Objective, taught: str = "") -> Part:
        """`taught`: by a teacher that answers once ("cached"), or that hears the attack, too ("live")."""
        return Part(
            models={"student": STUDENT} | ({"teacher": teacher} if taught else {}),
            objective=combine(own=objective),
            optimizer=optax.adamw(schedule(config.learning_rate, config.steps), weight_decay=1e-4),
            data=rows,
            take={"teacher": "teacher.teacher"} if taught else {},
            cache={"teacher": ("logits",)} if taught == "cached" else {},
            **shared,
        )

    eps = config.eps * LEVEL
    attack = {"eps": eps, "step_size": eps / 2, "steps": config.attack, **RANGE}
    soft = term(losses.kl, student="student.logits", teacher="teacher.logits", temperature=2.0)
    return found | {
        "labels": student(few, TASK.objective()),
        "kd": student(every, soft, "cached"),
        "trades": student(few, methods.trades("audio", **attack)),
        "ard": student(few, methods.ard("audio", **attack, alpha=0.5, temperature=2.0), "cached"),
        "iad": student(few, methods.iad("audio", **attack, alpha=0.5, temperature=2.0), "live"),
        "rslad": student(every, methods.rslad("audio", **attack), "cached"),
        "adaad": student(every, methods.adaad("audio", **attack), "live"),
    }


def report(config: Config, results, folder) -> None:
    """Clean and robust accuracy of each student, over the seeds; and what it gains on KD under attack."""
    eps, made = config.eps * LEVEL, parts(config)
    pgd = partial(attacks.pgd, **RANGE)
    under = {
        "accuracy, %": None,
        "under FGSM": partial(attacks.fgsm, eps=eps, **RANGE),
        f"under PGD-{config.test_attack}": partial(pgd, eps=eps, step_size=eps / 4, steps=config.test_attack),
        "at half the radius": partial(pgd, eps=eps / 2, step_size=eps / 8, steps=config.test_attack),
    }
    looks = {name: attack and robustness(STUDENT, TASK, "audio", attack) for name, attack in under.items()}
    test = [jax.device_put(b) for b in made["kd"].test.once()]
    scores = {arm: [{} for _ in own] for arm, own in results.items() if arm != "teacher"}
    for arm, own in scores.items():
        for seed, row in enumerate(own):
            result = results[arm][seed]
            student = runner.finished(folder, made[arm], arm, seed, result["variables"])["student"]
            for name, look in looks.items():
                row[name] = float(look(student, test)["accuracy"]) if look else result["accuracy"]
    files.write(folder / "robustness.json", json.dumps(scores, indent=1) + "\n")
    heads = ["arm", *under, "smallest … largest seed, clean", "against kd under PGD, points", "verdict"]
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 2) + ["---"]]
    strongest = list(under)[2]
    for arm in scores:
        rows = {name: next(r for r in summarise(scores, name, baseline) if r["arm"] == arm) for name in under}
        cells = [points(r["mean"], r["stderr"]) for r in rows.values()]
        clean = [100 * row["accuracy, %"] for row in scores[arm]]
        gap, width = rows[strongest], rows[strongest]["difference_stderr"]
        cells.append(f"{min(clean):.1f} … {max(clean):.1f}")
        cells.append("" if gap["difference"] is None else points(gap["difference"], width, "+"))
        cells.append(verdict(gap["difference"], width, config.seeds))
        lines.append([arm, *cells])
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    about = ABOUT.format(made=run_folder.made(), seeds=config.seeds, steps=config.steps, attack=config.attack)
    files.write(folder / "robustness.md", about + table)


if __name__ == "__main__":
    cli.main(["run", __file__, *sys.argv[1:]])
