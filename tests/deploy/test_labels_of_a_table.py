"""`mmkd predict --label`: the score of the student's task, or one line that says that there is none."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import tasks
from mmkd_jax.cli.predicting import predict
from mmkd_jax.deploy import folder
from mmkd_jax.deploy.program import export_function
from mmkd_jax.errors import UserError

BOTH = {"topic": tasks.classification(3, "topic", "topic"), "mood": tasks.regression("mood")}
TASKS = {
    "classification": tasks.classification(3),
    "regression": tasks.regression(),
    "multi_label": tasks.multi_label(3),
    "ordinal": tasks.ordinal(3),
    "tagging": tasks.tagging(("a", "b", "c")),
    "retrieval": tasks.retrieval(),
    "visual_questions": tasks.visual_questions(3),
    "generation": tasks.generation(),
    "multi_task": tasks.multi_task(BOTH, "topic"),
}
SCORES = {  # of the predictions 0, 1, 2, 2 for the labels 0, 1, 0, -
    "classification": "accuracy 66.7 % on 3 rows with a label",
    "visual_questions": "accuracy 66.7 % on 3 rows with a label",
    "ordinal": "accuracy 66.7 %, mean absolute error 0.6667 levels on 3 rows with a label",
    "regression": "mean absolute error 0.6667 on 3 rows with a label",
}
NAMES = ("none", "some", "many")


@pytest.fixture(scope="module")
def exported():
    row = jax.ShapeDtypeStruct((), "float32")
    kinds: dict[str, Any] = {"index": jnp.int32, "value": jnp.float32}
    return {
        kind: export_function(
            lambda v, batch, kind=kind: {"prediction": (v["w"] * batch["x"]).astype(kinds[kind])},
            {"w": row},
            {"x": row},
        )
        for kind in kinds
    }


def students(place, name, exported, classes=()):
    """A student of this task whose prediction is its input, and a table."""
    task = {k: getattr(TASKS[name], k) for k in ("name", "problem", "metric")}
    about = {"experiment": "mine", "training": "same", "model": "same", "seed": 0}
    program = exported["value" if name == "regression" else "index"]
    folder.write(place / "student", program, {"w": np.array(1, np.float32)}, about=about, task=task, classes=classes)
    labels = ("0", "1", "0", "") if not classes else (NAMES[0], NAMES[1], NAMES[0], "")
    rows = [f"{x},{y}" for x, y in zip((0, 1, 2, 2), labels, strict=True)]
    (place / "new.csv").write_text("\n".join(["x,truth", *rows]) + "\n")
    return [str(place / "student"), "--table", str(place / "new.csv"), "--label", "truth"]


@pytest.mark.parametrize("name", TASKS)
def test_a_label_is_compared_as_the_task_does_or_refused_by_its_name(tmp_path, capsys, exported, name):
    words = students(tmp_path, name, exported)
    if name not in SCORES:
        with pytest.raises(UserError, match=f"labels of task '{TASKS[name].name}' are not compared here") as error:
            predict(words)
        assert len(str(error.value)) < 500 and capsys.readouterr().out == ""
        return
    predict(words)
    assert SCORES[name] in capsys.readouterr().err


def test_levels_are_compared_by_their_names(tmp_path, capsys, exported):
    predict(students(tmp_path, "ordinal", exported, NAMES))
    assert SCORES["ordinal"] in capsys.readouterr().err
    words = students(tmp_path, "ordinal", exported, ("some", "none", "few"))
    with pytest.raises(UserError) as error:
        (tmp_path / "new.csv").write_text("x,truth\n1,many\n")
        predict(words)
    assert "row 0 (line 2): label 'many' is not a class of the student: few, none, some" in str(error.value)
    words = students(tmp_path, "ordinal", exported)
    (tmp_path / "new.csv").write_text("x,truth\n1,1.0\n")
    with pytest.raises(UserError, match="label '1.0'; the classes have no names: expected numbers from 0"):
        predict(words)
