"""AV-digits: one method of each family on top of plain KD, with equal budgets.

    mmkd run experiments/av_digits_families.py

The data, the teacher and the student are those of av_digits.py: a student that only hears, 500 labelled pairs, 5,500
without a label. *labels* learns from the labels alone and *kd* from the teacher's answers on all pairs; each other arm
is *kd* and one term of its family beside it, with weight 1 or the one that its line gives: none was tuned, so an arm
that does not help here may do so with another weight. All take the same number of steps, which cost more where a model
runs again. The best step is chosen on validation; the test split, with voices that nobody heard, is used once. The run
folder then holds families.json and families.md, copied to docs/.
"""

import dataclasses
import json
import sys

import optax

from mmkd_jax import cli, data, files, losses, methods, run_folder
from mmkd_jax.connectors import Linear
from mmkd_jax.evaluate import verdicts
from mmkd_jax.models import AudioTDNN, ImageMLP, Multimodal
from mmkd_jax.objective import Objective, combine, term
from mmkd_jax.part import Part
from mmkd_jax.tasks import classification
from mmkd_jax.views import linen


@dataclasses.dataclass(frozen=True)
class Config:
    """One method of each family."""

    seeds: int = 5
    """Runs of each part."""
    steps: int = 2_000
    """Updates of each student; a teacher takes half of them."""
    batch: int = 128
    """Rows of a batch."""
    learning_rate: float = 3e-3
    """Peak learning rate of the students; a teacher's is a third."""


config = Config()
baseline = "kd"
ABOUT = """# One method of each family

`mmkd run experiments/av_digits_families.py` wrote this page ({made}; {steps} steps). An audio-only student of 4,570
parameters on AV-digits, 500 of 6,000 pairs labelled. *labels* learns from the labels; *kd* from the teacher's answers
on all pairs, T = 2; every other arm is *kd* and one more term, with weights that nobody tuned. Accuracy on 2,000 test
pairs, mean ± standard error over the seeds, and the paired difference to *kd*. The verdict is a paired t-test at 95 %:
among so many arms, one may be wrong by chance. RSLAD is there to resist attacks, here of 4 dB, which this table does
not measure: see [under attack](robustness.md), at 1 dB. A student that only hears has one way from input to answer, so
that interchange, which swaps the embedding in both models, is KL on one more row here.

"""
ENCODERS = {"image": ImageMLP((128, 64)), "audio": AudioTDNN((64, 64))}
EMBEDDING = {"student": "student.embedding", "teacher": "teacher.embedding"}
WIDER = {"connect": {"student": Linear(64)}}


def families() -> dict[str, dict[str, Objective]]:
    """Family -> arm -> the term beside KD."""
    soft = {"student": "student.logits", "teacher": "teacher.logits"}
    return {
        "logits": {"dist": term(losses.dist, **soft)},
        "features": {"hint": term(losses.hint, **EMBEDDING, **WIDER)},
        "relational": {"rkd": term(losses.rkd_distance, **EMBEDDING)},
        "contrastive": {
            "info_nce": term(losses.info_nce, **EMBEDDING, **WIDER, weight=0.1),
            "crd": methods.crd(6_000, negatives=512, weight=0.1),
        },
        "cross-modal": {
            "c2kd": methods.c2kd(where="labelled"),
            "mke": methods.mke(("audio",), noise=0.1),
        },
        "alignment": {
            "feature_alignment": methods.feature_alignment(losses.cosine, **EMBEDDING),
            "coral": methods.subspace_alignment(losses.coral, **EMBEDDING),
            "label_alignment": methods.label_alignment(losses.agreement_jsd, ("student.logits", "teacher.logits")),
        },
        "adversarial": {
            "rslad": methods.rslad("audio", eps=2 / 255, step_size=1 / 255, steps=3),
            "discriminator": methods.discriminator(**soft, strength=0.1),
        },
        "structure": {"interchange": methods.interchange("embedding", temperature=2.0)},
    }


def parts(config: Config) -> dict[str, Part]:
    task = classification(10)
    pairs = data.load("av_digits", "train")
    few, every = (data.Memory(d, config.batch) for d in (pairs.where("labelled"), pairs))
    shared = {
        "task": task,
        "validation": data.Memory(data.load("av_digits", "validation"), 500),
        "test": data.Memory(data.load("av_digits", "test"), 500),
        "evaluate_every": max(1, min(50, config.steps // 20)),
        "save_every": max(1, config.steps // 4),
    }
    half = max(1, config.steps // 2)
    teacher = linen(Multimodal(ENCODERS, classes=10, width=64))
    student = linen(Multimodal({"audio": AudioTDNN((16, 16))}, classes=10, width=16))
    optimizer = optax.adamw(optax.cosine_decay_schedule(config.learning_rate, config.steps), weight_decay=1e-4)
    learn = {"optimizer": optimizer, "steps": config.steps, **shared}
    kd = term(losses.kl, student="student.logits", teacher="teacher.logits", temperature=2.0)

    def beside(**more: Objective) -> Part:
        return Part(
            models={"student": student, "teacher": teacher},
            objective=combine(soft=kd, **more),
            data=every,
            take={"teacher": "teacher.teacher"},
            cache={} if "interchange" in more else {"teacher": ("logits", "embedding")},
            **learn,
        )

    found = {
        "teacher": Part(
            models={"teacher": teacher},
            trained=("teacher",),
            objective=combine(task=task.objective("teacher")),
            optimizer=optax.adamw(optax.cosine_decay_schedule(config.learning_rate / 3, half), weight_decay=1e-2),
            data=few,
            steps=half,
            **shared,
        ),
        "labels": Part(models={"student": student}, objective=combine(task=task.objective()), data=few, **learn),
        "kd": beside(),
    }
    return found | {arm: beside(**{arm: more}) for arms in families().values() for arm, more in arms.items()}


def report(config: Config, results, folder) -> None:
    """The page: each family's arms against KD, and whether they helped."""
    family = {arm: name for name, arms in families().items() for arm in arms}
    kept = {arm: [{"accuracy": r["accuracy"]} for r in own] for arm, own in results.items()}
    saved = {"made": run_folder.made(), "steps": config.steps, "families": family, "results": kept}
    files.write(folder / "families.json", json.dumps(saved, indent=1) + "\n")
    files.write(folder / "families.md", ABOUT.format(**saved) + verdicts.page(kept, "accuracy", baseline, family))


if __name__ == "__main__":
    cli.main(["run", __file__, *sys.argv[1:]])
