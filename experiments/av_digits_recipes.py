"""AV-digits: all recipes, with equal numbers of student steps.

    mmkd run experiments/av_digits_recipes.py

A recipe is a function of a setting that returns trainings. `trainings` ends with all recipes and the baselines; to run
one recipe alone, replace its last line, for example with

    return plain | recipes.privileged_modalities(shared)

Data and model sizes are those of av_digits.py: 500 of 6,000 pairs are labeled. The baselines are *labels* and *kd*,
which is trained on the teacher's logits for all pairs. Students are audio-only, except *labels_both*, *md* and *mtsd*,
which also get the image. Each student takes the same number of steps (both stages of *staged_hints* together); the
steps of teachers are additional. The best step is selected on validation, except for *label_free*, which uses its last
step; the test split, with unseen speakers, is used once. The run folder then contains recipes.md, which is copied to
docs/.
"""

import dataclasses
import sys

import optax

import mmkd_jax as mmkd


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of the comparison of recipes."""

    seeds: int = 5
    """Number of seeds per training."""
    steps: int = 2_000
    """Training steps of each student; a teacher takes half as many."""
    batch: int = 128
    """Batch size."""
    learning_rate: float = 3e-3
    """Peak learning rate of the students; a teacher's is one third of it."""


config = Config()
baseline = "kd"
IMAGE = {"large": (128, 64), "middle": (64, 32), "small": (32, 16)}
AUDIO = {"large": (64, 64), "middle": (32, 32), "small": (16, 16)}
SHOWN = {
    "kd": (
        "privileged_modalities",
        "missing_modalities",
        "cross_modal_transfer",
        "hallucination",
        "born_again_3",
        "label_free",
    )
    + ("teacher_assistant", "staged_hints_2"),
    "labels": (
        "privileged_modalities",
        "missing_modalities",
        "cross_modal_transfer",
        "hallucination",
        "born_again_2",
        "born_again_3",
    )
    + ("label_free", "teacher_assistant", "staged_hints_2"),
    "hallucination_0": ("hallucination",),
    "labels_both": ("md", "mtsd"),
    "md": ("mtsd",),
}
"""Baseline of a table -> the students in it."""
ABOUT = """# Recipes

`mmkd run experiments/av_digits_recipes.py` generated this page ({made}; {steps} steps). The data are AV-digits, with
500 of 6,000 pairs labeled; the students are small. The tables show accuracy on 2,000 test pairs, mean ± standard error
over seeds, and the paired difference to a baseline. The verdict is a paired t-test at 95 %; among so many comparisons,
one may be wrong by chance. Nothing was tuned. Every student takes the same number of steps; the steps of teachers and
assistants are additional.

To run a single recipe, change the last line of `trainings` in the experiment, for example to
`return plain | recipes.privileged_modalities(shared)`. Trainings are named after recipes: *missing_modalities* is
`missing_modalities(shared, missing=0.5)`, and *label_free* is `label_free(shared, unlabelled)`, on the 5,500 unlabeled
pairs. A number at the end of a name is the index of a stage or generation.

"""
SECTIONS = {
    "kd": """## Compared with plain KD

*kd* is audio-only and is trained on the logits of an audio-visual teacher for all pairs.
""",
    "labels": """## Compared with labels only

*labels* is also audio-only. It is the relevant baseline for born-again networks and hallucination, which do not use the
logits of a multimodal teacher.
""",
    "hallucination_0": """## Hallucination compared with the same student

*hallucination_0* has the same two branches, and so twice the parameters of the other students, but no feature loss.
""",
    "labels_both": """## Audio-visual students
""",
    "md": """## MTSD compared with MD

*mtsd* adds feature losses to *md*, on the fused features and on the features of each modality.
""",
}


def model(modalities: tuple[str, ...], size: str) -> mmkd.Model:
    encoders = {"image": mmkd.models.ImageMLP(IMAGE[size]), "audio": mmkd.models.AudioTDNN(AUDIO[size])}
    return mmkd.linen(mmkd.models.Multimodal({m: encoders[m] for m in modalities}, classes=10, width=AUDIO[size][-1]))


def setting(config: Config) -> mmkd.recipes.Setting:
    pairs = mmkd.data.load("av_digits", "train")

    def optimizer(size: str, steps: int) -> optax.GradientTransformation:
        rate, decay = {"large": (1 / 3, 1e-2), "middle": (1.0, 1e-4), "small": (1.0, 1e-4)}[size]
        return optax.adamw(optax.cosine_decay_schedule(rate * config.learning_rate, steps), weight_decay=decay)

    return mmkd.recipes.Setting(
        task=mmkd.tasks.classification(10),
        labeled_data=mmkd.data.InMemory(pairs.where("labelled"), config.batch),
        all_data=mmkd.data.InMemory(pairs, config.batch),
        validation=mmkd.data.InMemory(mmkd.data.load("av_digits", "validation"), 500),
        test=mmkd.data.InMemory(mmkd.data.load("av_digits", "test"), 500),
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


def trainings(config: Config) -> dict[str, mmkd.Training]:
    shared = setting(config)
    unlabelled = mmkd.data.InMemory(mmkd.data.load("av_digits", "train").where("labelled", False), config.batch)
    teacher = shared.teacher("image", "audio")
    plain = {
        **teacher,
        "labels": shared.supervised(shared.student()),
        "labels_both": shared.supervised(shared.student("image", "audio")),
        "kd": shared.distilled(shared.student(), teacher, labels=False),
    }
    recipes = mmkd.recipes
    baseline_student = {"hallucination_0": recipes.hallucination(shared, weight=0.0)["hallucination"]}
    students = recipes.privileged_modalities(shared) | recipes.missing_modalities(shared)
    students |= recipes.cross_modal_transfer(shared)
    students |= (
        recipes.hallucination(shared)
        | baseline_student
        | recipes.born_again(shared)
        | recipes.label_free(shared, unlabelled)
    )
    students |= recipes.teacher_assistant(shared) | recipes.staged_hints(shared) | recipes.md(shared)
    students |= recipes.mtsd(shared)
    return plain | students


def report(config: Config, results, folder) -> None:
    """Write recipes.md: each recipe's student compared with plain KD, with labels only, and with its own baseline."""
    entries = [mmkd.catalogue.listed(e) for e in mmkd.catalogue.entries() if e.name.startswith("recipes.")]
    page = [ABOUT.format(made=mmkd.experiment.provenance(), steps=config.steps), *entries, ""]
    for against, students in SHOWN.items():
        shown = [training for training in students if training in results]
        if against in results and shown:
            rows = {training: results[training] for training in (against, *shown)}
            page += [SECTIONS[against], mmkd.reporting.page(rows, "accuracy", against, dict.fromkeys(shown, "recipe"))]
    mmkd.files.write(folder / "recipes.md", "\n".join(page))


if __name__ == "__main__":
    mmkd.main(["run", __file__, *sys.argv[1:]])
