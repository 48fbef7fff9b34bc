"""AV-digits under attack: adversarial robustness of audio-only students trained in seven ways.

    mmkd run experiments/av_digits_robust.py

Data, teacher and student are those of av_digits.py: 500 labeled and 5,500 unlabeled pairs. *labels* and *trades* are
trained on labels alone, *kd*, *rslad* and *adaad* on the teacher's logits for all pairs. *ard* and *iad* attack the
label loss and therefore use the labeled pairs only. All trainings take the same number of steps, and adversarial ones
the same number of attack steps, which cost extra time. The teacher was not trained adversarially. The best step is
selected by clean accuracy on validation; the test split, with unseen speakers, is used once. The run folder then
contains robustness.md and robustness.json, which are copied to docs/: accuracy on clean recordings and under FGSM and
PGD.

One level of the log-mel spectrum is 2 dB, or 1/255 after scaling uint8 to [0, 1]; the spectra have 40 levels. The
attack may change each of the 32 x 32 values by half a level, 1 dB. That is far less than the babble noise, but enough
to fool a student trained without attacks.
"""

import dataclasses
import json
import sys
from functools import partial

import jax
import optax

import mmkd_jax as mmkd

LEVEL = 1 / 255
RANGE = {"low": 0.0, "high": 40 * LEVEL}


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of the robustness comparison."""

    seeds: int = 5
    """Number of seeds per training."""
    steps: int = 1_000
    """Training steps of each student and of the teacher."""
    batch: int = 128
    """Batch size."""
    learning_rate: float = 3e-3
    """Peak learning rate of the students; the teacher's is one third of it."""
    eps: float = 0.5
    """Radius of the attack, in levels of 2 dB."""
    attack: int = 3
    """Attack steps in training."""
    test_attack: int = 20
    """Attack steps on the test split."""


config = Config()
baseline = "kd"
ABOUT = """# Adversarial robustness

`mmkd run experiments/av_digits_robust.py` generated this page ({made}; {seeds} seeds, {steps} steps, PGD-{attack} in
training). The student is audio-only and has 4,570 parameters; the data are AV-digits. *labels*, *trades*, *ard* and
*iad* are trained on the 500 labeled pairs, because attacks on the label loss need labels; *kd*, *rslad* and *adaad* are
trained on all 6,000. The attack changes each value of the log-mel spectrum by at most 1 dB. The table shows accuracy on
2,000 test pairs, mean ± standard error over seeds. Nothing was tuned, the teacher was not trained adversarially, and
the best step is selected by clean accuracy. The verdict is a paired t-test against *kd* at 95 %. A wide range between
the smallest and the largest seed means that some seeds failed to learn in this number of steps (chance is 10 %); such a
mean says little about the method. `robustness.json` contains all seeds.

"""
TASK = mmkd.tasks.classification(10)
STUDENT = mmkd.linen(mmkd.models.Multimodal({"audio": mmkd.models.AudioTDNN((16, 16))}, classes=10, width=16))


def trainings(config: Config) -> dict[str, mmkd.Training]:
    pairs = mmkd.data.load("av_digits", "train")
    labeled, all_pairs = (mmkd.data.InMemory(d, config.batch) for d in (pairs.where("labelled"), pairs))
    shared = {
        "task": TASK,
        "validation": mmkd.data.InMemory(mmkd.data.load("av_digits", "validation"), 500),
        "test": mmkd.data.InMemory(mmkd.data.load("av_digits", "test"), 500),
        "steps": config.steps,
        "evaluate_every": max(1, min(50, config.steps // 20)),
        "save_every": max(1, config.steps // 4),
    }
    encoders = {"image": mmkd.models.ImageMLP((128, 64)), "audio": mmkd.models.AudioTDNN((64, 64))}
    teacher = mmkd.linen(mmkd.models.Multimodal(encoders, classes=10, width=64))
    schedule = optax.cosine_decay_schedule
    found = {
        "teacher": mmkd.Training(
            models={"teacher": mmkd.Trained(teacher)},
            objective=mmkd.combine(task=TASK.objective("teacher")),
            optimizer=optax.adamw(schedule(config.learning_rate / 3, config.steps), weight_decay=1e-2),
            data=labeled,
            **shared,
        )
    }

    def student(rows: mmkd.data.InMemory, objective: mmkd.Objective, taught: str = "") -> mmkd.Training:
        """A student's training; `taught`: "cached" reads teacher logits, "live" runs the teacher on attacked audio."""
        cache = ("logits",) if taught == "cached" else None
        frozen = mmkd.Frozen(teacher, init_from="teacher.teacher", cache=cache)
        return mmkd.Training(
            models={"student": mmkd.Trained(STUDENT)} | ({"teacher": frozen} if taught else {}),
            objective=mmkd.combine(own=objective),
            optimizer=optax.adamw(schedule(config.learning_rate, config.steps), weight_decay=1e-4),
            data=rows,
            **shared,
        )

    eps = config.eps * LEVEL
    attack = mmkd.adversarial.PGD(eps=eps, step_size=eps / 2, steps=config.attack, **RANGE)
    soft = mmkd.term(mmkd.losses.kl, student="student.logits", teacher="teacher.logits", temperature=2.0)
    return found | {
        "labels": student(labeled, TASK.objective()),
        "kd": student(all_pairs, soft, "cached"),
        "trades": student(labeled, mmkd.methods.trades("audio", attack=attack)),
        "ard": student(labeled, mmkd.methods.ard("audio", attack=attack, alpha=0.5, temperature=2.0), "cached"),
        "iad": student(labeled, mmkd.methods.iad("audio", attack=attack, alpha=0.5, temperature=2.0), "live"),
        "rslad": student(all_pairs, mmkd.methods.rslad("audio", attack=attack), "cached"),
        "adaad": student(all_pairs, mmkd.methods.adaad("audio", attack=attack), "live"),
    }


def report(config: Config, results, folder) -> None:
    """Write robustness.json and robustness.md: clean and robust accuracy of each student, compared with KD."""
    eps, all_trainings = config.eps * LEVEL, trainings(config)
    pgd = partial(mmkd.adversarial.PGD, steps=config.test_attack, **RANGE)
    under = {
        "accuracy, %": None,
        "under FGSM": mmkd.adversarial.FGSM(eps=eps, **RANGE),
        f"under PGD-{config.test_attack}": pgd(eps=eps, step_size=eps / 4),
        "at half the radius": pgd(eps=eps / 2, step_size=eps / 8),
    }
    robustness = partial(mmkd.evaluation.robustness, STUDENT, TASK, "audio")
    evaluations = {name: robustness(attack) if attack else None for name, attack in under.items()}
    test = [jax.device_put(b) for b in all_trainings["kd"].test.eval_batches()]
    scores = {training: [{} for _ in seeds] for training, seeds in results.items() if training != "teacher"}
    for training, rows_by_seed in scores.items():
        for seed, row in enumerate(rows_by_seed):
            result = results[training][seed]
            student = mmkd.experiment.load_variables(folder, all_trainings[training], training, seed)["student"]
            for name, evaluate in evaluations.items():
                row[name] = float(evaluate(student, test)["accuracy"]) if evaluate else result["accuracy"]
    mmkd.files.write(folder / "robustness.json", json.dumps(scores, indent=1) + "\n")
    heads = ["training", *under, "smallest … largest seed, clean", "against kd under PGD, points", "verdict"]
    lines = []
    strongest = list(under)[2]
    for training in scores:
        summaries = {name: mmkd.reporting.summarize(scores, name, baseline) for name in under}
        rows = {name: next(r for r in summary if r["training"] == training) for name, summary in summaries.items()}
        cells = [mmkd.reporting.points(r["mean"], r["stderr"]) for r in rows.values()]
        clean = [100 * row["accuracy, %"] for row in scores[training]]
        gap, width = rows[strongest], rows[strongest]["difference_stderr"]
        cells.append(f"{min(clean):.1f} … {max(clean):.1f}")
        cells.append("" if gap["difference"] is None else mmkd.reporting.points(gap["difference"], width, "+"))
        cells.append(mmkd.reporting.verdict(gap["difference"], width, config.seeds))
        lines.append([training, *cells])
    table = mmkd.reporting.markdown_table(heads, lines, "l" + "r" * (len(heads) - 2) + "l")
    about = ABOUT.format(
        all_trainings=mmkd.experiment.provenance(), seeds=config.seeds, steps=config.steps, attack=config.attack
    )
    mmkd.files.write(folder / "robustness.md", about + table)


if __name__ == "__main__":
    mmkd.main(["run", __file__, *sys.argv[1:]])
