"""Several models at once: students that teach one another, an average of the own variables, several teachers."""

import numpy as np
import optax

from mmkd_jax import losses, methods
from tests.mechanisms.stages.stage import Stage
from tests.small import make_batch, net


def batches(steps):
    for seed in range(steps):
        batch = make_batch(seed)
        yield batch | {"present.image": ~batch["present.audio"] | (batch["example_id"] % 2 == 0)}


TEACHERS = {"sees": "present.image", "hears": "present.audio"}
FORMS = ("mean", "confidence", "entropy", "agreement")
TAUGHT = {f"methods.multi_teacher, {by}": methods.multi_teacher(TEACHERS, by=by) for by in FORMS}
AVERAGED = {
    "methods.mean_teacher": methods.mean_teacher(student="one.logits", teacher="average.logits", loss=losses.kl),
    "methods.mean_teacher, ramp": methods.mean_teacher(student="one.logits", teacher="average.logits", ramp=5),
    "methods.dml": methods.dml("one", "two", "three", labelled="labelled"),
}
RULED = {
    "methods.logic_rules": methods.logic_rules(
        {
            "heard": (
                lambda outputs: outputs["batch.present.audio"][:, None].astype("float32") * np.array([[0, 1, 1]]),
                1.0,
            )
        },
        imitation=optax.linear_schedule(0.0, 0.9, 5),
        labelled="labelled",
    )
}
MODELS = {"teacher": net(6, "image", "audio"), "student": net(8, "image", "audio")}
SWAPPED = {"methods.interchange, two sources": methods.interchange(("features.image", "features.audio"))}
STAGES = {
    "sources": Stage(MODELS, batches, SWAPPED),
    "rules": Stage({"student": net(8)}, batches, RULED),
    "teachers": Stage({"sees": net(6), "hears": net(5, "audio"), "student": net(8, "image", "audio")}, batches, TAUGHT),
    "students": Stage(
        {"one": net(8, dropout=0.3), "two": net(6), "three": net(4), "average": net(8, dropout=0.3)},
        batches,
        AVERAGED,
        trained=("one", "two", "three"),
        ema={"average": ("one", 0.9)},
    ),
}
