"""AV-digits: all recipes, with equal budgets of their students.

    mmkd run experiments/av_digits_recipes.py

A recipe is a function of a setting that returns parts. `parts` ends with all of them, beside plain KD; one alone is one
other line,

    return plain | recipes.mtsd(shared)

and another recipe another name in it. The data and the sizes are those of av_digits.py: 500 of 6,000 pairs
labelled. *labels* and *kd*, which learns from the teacher's answers on all pairs, stand beside; the students of *both*
see the image, too. Each student takes the same number of steps (the two stages of *staged_hints* together); what
teaches it takes steps of its own. The best step is chosen on validation, but for *label_free*, which keeps its last;
the test split, with voices that nobody heard, is used once. The run folder then holds recipes.md, copied to docs/.
"""

import dataclasses
import sys

import optax

from mmkd_jax import catalogue, cli, data, files, recipes, run_folder
from mmkd_jax.evaluate import verdicts
from mmkd_jax.models import AudioTDNN, ImageMLP, Multimodal
from mmkd_jax.part import Part
from mmkd_jax.tasks import classification
from mmkd_jax.views import Model, linen


@dataclasses.dataclass(frozen=True)
class Config:
    """All recipes."""

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
IMAGE = {"large": (128, 64), "middle": (64, 32), "small": (32, 16)}
AUDIO = {"large": (64, 64), "middle": (32, 32), "small": (16, 16)}
SHOWN = {
    "kd": ("mtsd", "mtsd_missing", "cross_modal_transfer", "hallucination", "born_again_3", "label_free")
    + ("teacher_assistant", "staged_hints_2"),
    "labels": ("mtsd", "mtsd_missing", "cross_modal_transfer", "hallucination", "born_again_2", "born_again_3")
    + ("label_free", "teacher_assistant", "staged_hints_2"),
    "hallucination_0": ("hallucination",),
    "labels_both": ("md",),
}
"""With what a table compares -> the students in it."""
ABOUT = """# Recipes

`mmkd run experiments/av_digits_recipes.py` measured this ({made}; {steps} steps). AV-digits, 500 of 6,000 pairs
labelled; small students. Accuracy on 2,000 test pairs, mean ± standard error over the seeds, and the paired
difference. The verdict is a paired t-test at 95 %: among so many comparisons, one may be wrong by chance. Nothing was
tuned. A teacher or an assistant takes steps of its own beside a student's.

To run one of them alone, let `parts` of the experiment end with one other line, such as
`return plain | recipes.mtsd(shared)`. Arms are named after recipes; *mtsd_missing* is `mtsd(shared, missing=0.5)`,
*label_free* here sees the 5,500 pairs without a label, `label_free(shared, unlabelled)`, a number at the end is that of
a stage or a generation.

"""
SECTIONS = {
    "kd": """## Against plain KD

*kd* hears, and learns from the answers of a teacher that hears and sees, on all pairs.
""",
    "labels": """## Against labels alone

*labels* hears, too; born-again networks and hallucination are about this comparison, as no multimodal teacher answers.
""",
    "hallucination_0": """## Hallucination against its own student

*hallucination_0* has the same two branches, twice the parameters of the other students, and follows no features.
""",
    "labels_both": """## Students that hear and see
""",
}


def model(modalities: tuple[str, ...], size: str) -> Model:
    encoders = {"image": ImageMLP(IMAGE[size]), "audio": AudioTDNN(AUDIO[size])}
    return linen(Multimodal({m: encoders[m] for m in modalities}, classes=10, width=AUDIO[size][-1]))


def setting(config: Config) -> recipes.Setting:
    pairs = data.load("av_digits", "train")

    def optimizer(size: str, steps: int) -> optax.GradientTransformation:
        rate, decay = {"large": (1 / 3, 1e-2), "middle": (1.0, 1e-4), "small": (1.0, 1e-4)}[size]
        return optax.adamw(optax.cosine_decay_schedule(rate * config.learning_rate, steps), weight_decay=decay)

    return recipes.Setting(
        task=classification(10),
        few=data.Memory(pairs.where("labelled"), config.batch),
        every=data.Memory(pairs, config.batch),
        validation=data.Memory(data.load("av_digits", "validation"), 500),
        test=data.Memory(data.load("av_digits", "test"), 500),
        model=model,
        optimizer=optimizer,
        steps=config.steps,
        teacher_steps=max(1, config.steps // 2),
        modalities=("image", "audio"),
        seen=("audio",),
        sizes=("large", "middle", "small"),
        evaluate_every=max(1, min(50, config.steps // 20)),
        save_every=max(1, config.steps // 4),
    )


def parts(config: Config) -> dict[str, Part]:
    shared = setting(config)
    unlabelled = data.Memory(data.load("av_digits", "train").where("labelled", False), config.batch)
    teacher = shared.teacher("image", "audio")
    plain = {
        **teacher,
        "labels": shared.alone(shared.student()),
        "labels_both": shared.alone(shared.student("image", "audio")),
        "kd": shared.taught(shared.student(), teacher, labels=False),
    }
    own = {"hallucination_0": recipes.hallucination(shared, weight=0.0)["hallucination"]}
    every = recipes.mtsd(shared) | recipes.mtsd(shared, missing=0.5) | recipes.cross_modal_transfer(shared)
    every |= recipes.hallucination(shared) | own | recipes.born_again(shared) | recipes.label_free(shared, unlabelled)
    every |= recipes.teacher_assistant(shared) | recipes.staged_hints(shared) | recipes.md(shared)
    return plain | every


def report(config: Config, results, folder) -> None:
    """The page: each recipe's student against plain KD, against labels alone, and against its own without a teacher."""
    told = [catalogue.listed(e) for e in catalogue.entries() if e.name.startswith("recipes.")]
    page = [ABOUT.format(made=run_folder.made(), steps=config.steps), *told, ""]
    for against, students in SHOWN.items():
        here = [arm for arm in students if arm in results]
        if against in results and here:
            own = {arm: results[arm] for arm in (against, *here)}
            page += [SECTIONS[against], verdicts.page(own, "accuracy", against, dict.fromkeys(here, "recipe"))]
    files.write(folder / "recipes.md", "\n".join(page))


if __name__ == "__main__":
    cli.main(["run", __file__, *sys.argv[1:]])
