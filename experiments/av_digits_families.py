"""AV-digits: one method of each family added to plain KD, with equal numbers of steps.

    mmkd run experiments/av_digits_families.py

Data, teacher and student are those of av_digits.py: an audio-only student, 500 labeled and 5,500 unlabeled pairs.
*labels* is trained on the labels alone, and *kd* on the teacher's logits for all pairs. Every other training adds one
term of its family to *kd*, with weight 1 unless the code sets another. No weight was tuned, so a method that does not
help here may help with another weight. All trainings take the same number of steps; a step costs more if a method runs
a model again. The best step is selected on validation; the test split, with unseen speakers, is used once. The run
folder then contains families.json and families.md, which are copied to docs/.
"""

import dataclasses
import json
import sys

import optax

import mmkd_jax as mmkd


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of the comparison of families."""

    seeds: int = 5
    """Number of seeds per training."""
    steps: int = 2_000
    """Training steps of each student; the teacher takes half as many."""
    batch: int = 128
    """Batch size."""
    learning_rate: float = 3e-3
    """Peak learning rate of the students; the teacher's is one third of it."""


config = Config()
baseline = "kd"
ABOUT = """# One method of each family

`mmkd run experiments/av_digits_families.py` generated this page ({made}; {steps} steps). The student is audio-only and
has 4,570 parameters; the data are AV-digits, with 500 of 6,000 pairs labeled. *labels* is trained on the labels, *kd*
on the teacher's logits for all pairs with T = 2. Every other training adds one term to *kd*, with an untuned weight.
The table shows accuracy on 2,000 test pairs, mean ± standard error over seeds, and the paired difference to *kd*. The
verdict is a paired t-test at 95 %; among so many trainings, one verdict may be wrong by chance. RSLAD is a defense
against attacks, here of 4 dB, which this table does not measure: see [adversarial robustness](robustness.md), at 1 dB.
An audio-only student has a single path from input to logits, so interchange, which swaps the embeddings of both
models, reduces to KL on one more row.

"""
ENCODERS = {"image": mmkd.models.ImageMLP((128, 64)), "audio": mmkd.models.AudioTDNN((64, 64))}
EMBEDDING = {"student": "student.embedding", "teacher": "teacher.embedding"}
WIDER = {"connect": {"student": mmkd.connectors.Linear(64)}}


def families() -> dict[str, dict[str, mmkd.Objective]]:
    """Return family -> training -> the term added to KD."""
    soft = {"student": "student.logits", "teacher": "teacher.logits"}
    return {
        "logits": {"dist": mmkd.term(mmkd.losses.dist, **soft)},
        "features": {"hint": mmkd.term(mmkd.losses.hint, **EMBEDDING, **WIDER)},
        "relational": {"rkd": mmkd.term(mmkd.losses.rkd_distance, **EMBEDDING)},
        "contrastive": {
            "info_nce": mmkd.term(mmkd.losses.info_nce, **EMBEDDING, **WIDER, weight=0.1),
            "crd": mmkd.methods.crd(6_000, negatives=512, weight=0.1),
        },
        "cross-modal": {
            "c2kd": mmkd.methods.c2kd(where="labelled"),
            "mke": mmkd.methods.mke(("audio",), noise=0.1),
        },
        "alignment": {
            "feature_alignment": mmkd.methods.feature_alignment(mmkd.losses.cosine, **EMBEDDING),
            "coral": mmkd.methods.subspace_alignment(mmkd.losses.coral, **EMBEDDING),
            "label_alignment": mmkd.methods.label_alignment(
                mmkd.losses.agreement_jsd, ("student.logits", "teacher.logits")
            ),
        },
        "adversarial": {
            "rslad": mmkd.methods.rslad("audio", attack=mmkd.adversarial.PGD(eps=2 / 255, step_size=1 / 255, steps=3)),
            "discriminator": mmkd.methods.discriminator(**soft, strength=0.1),
        },
        "structure": {"interchange": mmkd.methods.interchange("embedding", temperature=2.0)},
    }


def trainings(config: Config) -> dict[str, mmkd.Training]:
    task = mmkd.tasks.classification(10)
    pairs = mmkd.data.load("av_digits", "train")
    labeled, all_pairs = (mmkd.data.InMemory(d, config.batch) for d in (pairs.where("labelled"), pairs))
    shared = {
        "task": task,
        "validation": mmkd.data.InMemory(mmkd.data.load("av_digits", "validation"), 500),
        "test": mmkd.data.InMemory(mmkd.data.load("av_digits", "test"), 500),
        "evaluate_every": max(1, min(50, config.steps // 20)),
        "save_every": max(1, config.steps // 4),
    }
    half = max(1, config.steps // 2)
    teacher = mmkd.linen(mmkd.models.Multimodal(ENCODERS, classes=10, width=64))
    student = mmkd.linen(mmkd.models.Multimodal({"audio": mmkd.models.AudioTDNN((16, 16))}, classes=10, width=16))
    optimizer = optax.adamw(optax.cosine_decay_schedule(config.learning_rate, config.steps), weight_decay=1e-4)
    learn = {"optimizer": optimizer, "steps": config.steps, **shared}
    kd = mmkd.term(mmkd.losses.kl, student="student.logits", teacher="teacher.logits", temperature=2.0)

    def beside(**more: mmkd.Objective) -> mmkd.Training:
        return mmkd.Training(
            models={
                "student": mmkd.Trained(student),
                "teacher": mmkd.Frozen(
                    teacher,
                    init_from="teacher.teacher",
                    cache=None if "interchange" in more else ("logits", "embedding"),
                ),
            },
            objective=mmkd.combine(soft=kd, **more),
            data=all_pairs,
            **learn,
        )

    found = {
        "teacher": mmkd.Training(
            models={"teacher": mmkd.Trained(teacher)},
            objective=mmkd.combine(task=task.objective("teacher")),
            optimizer=optax.adamw(optax.cosine_decay_schedule(config.learning_rate / 3, half), weight_decay=1e-2),
            data=labeled,
            steps=half,
            **shared,
        ),
        "labels": mmkd.Training(
            models={"student": mmkd.Trained(student)},
            objective=mmkd.combine(task=task.objective()),
            data=labeled,
            **learn,
        ),
        "kd": beside(),
    }
    return found | {
        training: beside(**{training: more})
        for trainings in families().values()
        for training, more in trainings.items()
    }


def report(config: Config, results, folder) -> None:
    """Write families.json and families.md: every training compared with KD."""
    family = {training: name for name, trainings in families().items() for training in trainings}
    accuracies = {training: [{"accuracy": r["accuracy"]} for r in own] for training, own in results.items()}
    saved = {"made": mmkd.experiment.provenance(), "steps": config.steps, "families": family, "results": accuracies}
    mmkd.files.write(folder / "families.json", json.dumps(saved, indent=1) + "\n")
    page = ABOUT.format(**saved) + mmkd.reporting.page(accuracies, "accuracy", baseline, family)
    mmkd.files.write(folder / "families.md", page)


if __name__ == "__main__":
    mmkd.main(["run", __file__, *sys.argv[1:]])
