"""Text generation in training: a teacher's distribution, texts in microbatches, prompts and padding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import data, methods, tasks
from mmkd_jax.core.objective import combine
from mmkd_jax.errors import UserError
from mmkd_jax.training import scores
from mmkd_jax.training.roles import Frozen, Trained
from mmkd_jax.training.training import Training
from tests.mechanisms.stages.structure import batches, speaker
from tests.training.test_loop import fit

TASK = tasks.generation()
EACH = [{k: x[b["valid"]] for k, x in b.items() if k.startswith("text.")} for b in batches(4)]
ROWS = data.from_columns({k: np.concatenate([b[k] for b in EACH]) for k in EACH[0]}, "made-up")


STUDENT = speaker(6)
TEACHER = STUDENT._replace(init=lambda key, batch: STUDENT.init(jax.random.key(4), batch))


def training(objective, steps=300, evaluate_every=300, microbatches=1):
    rows = data.InMemory(ROWS, 28)
    return Training(
        models={"student": Trained(STUDENT), "teacher": Frozen(TEACHER, random=True)},
        objective=objective,
        task=TASK,
        optimizer=optax.adam(5e-2),
        data=rows,
        validation=rows,
        test=rows,
        steps=steps,
        evaluate_every=evaluate_every,
        microbatches=microbatches,
    )


@pytest.mark.full
def test_the_teachers_distribution_gives_the_student_its_perplexity(tmp_path):
    """word_kd without the loss on the text: what the student thinks of the text becomes what the teacher thinks."""
    made = training(combine(words=methods.word_kd(alpha=1.0)))
    program, fitted = fit(made, tmp_path)
    rows = list(made.validation.eval_batches())
    of = {n: scores.evaluate(TASK, program.measure, made.own_variables(n, 0), rows) for n in made.models}
    start, teacher = (np.log(of[n]["perplexity"]) for n in ("student", "teacher"))
    end = np.log(fitted.history[-1]["perplexity"])
    assert abs(start - teacher) > 0.3 and abs(end - teacher) < 0.2 * abs(start - teacher), (start, teacher, end)


@pytest.mark.full
def test_texts_of_any_length_weigh_the_same_in_microbatches(tmp_path):
    """The mean is over the tokens of the batch, not one of means over microbatches with fewer or more of them."""
    objective = combine(task=TASK.objective(), soft=methods.word_kd())
    found = [fit(training(objective, steps=1, evaluate_every=1, microbatches=n), tmp_path / str(n))[1] for n in (1, 4)]
    one, four = (f.variables["student"]["params"]["out"] for f in found)
    np.testing.assert_allclose(one, four, rtol=1e-5, atol=1e-6)
    assert found[0].history[0]["loss"] == pytest.approx(found[1].history[0]["loss"], rel=1e-5)


IDS = np.array([[0, 0, 4, 3], [2, 1, 3, 0], [0, 0, 0, 0]])


def test_padding_before_a_text_is_refused():
    """Text after padding would not be predicted from its start; rows without a text may be there."""
    columns = {"text.ids": IDS, "text.mask": IDS > 0}
    with pytest.raises(UserError, match=r"'text.mask' is False in row 0 \(1 such rows\): pad on the right"):
        TASK.check(columns)
    TASK.check(columns | {"valid": np.array([False, True, True])})


def test_a_prompt_is_no_answer():
    """Neither loss nor metrics read the logits that predict the prompt, wherever padding stands."""
    task = tasks.generation(prompt="asked")
    batch = {"text.ids": jnp.array(IDS), "text.mask": jnp.array(IDS > 0)}
    batch["asked"] = jnp.array([[False, False, True, False], [True, True, False, False], [False] * 4])
    found = task.metrics({"logits": jnp.zeros((3, 4, 5))}, batch)
    assert [float(n) for _, n in found.values()] == [1, 1, 1]
