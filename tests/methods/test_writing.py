"""Token, word and sequence distillation, and on-policy distillation: whose text, which words, whose gradient."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses, methods
from mmkd_jax.core import generation
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import total
from mmkd_jax.core.state import variables
from mmkd_jax.errors import UserError
from tests.mechanisms.stages.structure import LENGTH, MODELS, batches
from tests.small import compiled, distil, initialize, look, on_device

BATCH = next(batches(1))
PAIR = {n: MODELS[n] for n in ("student", "teacher")}


@pytest.fixture(scope="module")
def outputs():
    state, frozen = initialize(distil(PAIR, methods.word_kd()), BATCH)
    return look(PAIR, variables(state, frozen), on_device(BATCH), StepContext(jnp.int32(0), jax.random.key(1)))


def value(method, outputs):
    params, state = compiled(method).init(outputs)
    return total(compiled(method).apply(params, state, outputs)[0])[0]


def by_hand(student, teacher, ids, mask, alpha):
    """Word by word, in NumPy: the mean over the words that are there."""
    soft, data = [], []
    for i in np.flatnonzero(BATCH["valid"]):
        for j in range(LENGTH - 1):
            if mask[i, j + 1]:
                q, p = (x[i, j] - np.logaddexp.reduce(x[i, j]) for x in (student, teacher))
                data.append(-q[ids[i, j + 1]])
                soft.append(np.sum(np.exp(p) * (p - q)))
    return (1 - alpha) * np.mean(data) + alpha * np.mean(soft)


def test_word_kd_is_token_kd_one_place_on(outputs):
    student, teacher = (np.asarray(outputs[f"{n}.logits"], float) for n in ("student", "teacher"))
    expected = by_hand(student, teacher, BATCH["text.ids"], BATCH["text.mask"], 0.3)
    assert float(value(methods.word_kd(alpha=0.3), outputs)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_what_stands_in_padding_is_not_foretold(outputs):
    other = np.where(BATCH["text.mask"], BATCH["text.ids"], 3).astype(np.int32)
    moved = dataclasses.replace(outputs, batch={**outputs.batch, "text.ids": jnp.asarray(other)})
    for method in (methods.word_kd(), methods.token_kd(labels="batch.text.ids"), methods.gkd(share=1.0)):
        assert float(value(method, moved)) == pytest.approx(float(value(method, outputs)), rel=1e-6)


def test_the_teachers_text_is_its_likeliest_word_after_word(outputs):
    written = generation.generate(outputs.run["teacher"], outputs.batch, end=1)
    ids, mask = np.asarray(written["text.ids"]), np.asarray(written["text.mask"])
    assert (ids[:, 0] == BATCH["text.ids"][:, 0]).all()
    logits = np.asarray(outputs.run["teacher"](written)["logits"])
    for i in range(len(ids)):
        ended = False
        for j in range(1, LENGTH):
            assert mask[i, j] != ended
            if not ended:
                assert ids[i, j] == logits[i, j - 1].argmax()
                ended = ids[i, j] == 1
    # the term is the student's cross-entropy there
    rows = np.asarray(outputs.run["student"](written)["logits"], float)
    q = rows - np.logaddexp.reduce(rows, -1, keepdims=True)
    own = -np.take_along_axis(q[:, :-1], ids[:, 1:, None], -1)[..., 0]
    there = mask[:, 1:] & BATCH["valid"][:, None]
    assert float(value(methods.sequence_kd(end=1), outputs)) == pytest.approx(own[there].mean(), rel=1e-5)


@pytest.mark.slow
def test_on_policy_words_are_the_students_and_off_policy_the_datas(outputs):
    """Without own texts it is the JSD on the data; with them the data after the first word is not read."""
    off = value(methods.gkd(share=0.0), outputs)
    words = losses.jsd(outputs["student.logits"][:, :-1], outputs["teacher.logits"][:, :-1])
    there = BATCH["text.mask"][:, 1:] & BATCH["valid"][:, None]
    texts = [np.asarray(words)[i][there[i]].mean() for i in range(len(there)) if there[i].any()]
    assert float(off) == pytest.approx(np.mean(texts), rel=1e-5)
    other = BATCH["text.ids"].copy()
    other[:, 1:] = (other[:, 1:] + 1) % 5
    moved = dataclasses.replace(outputs, batch={**outputs.batch, "text.ids": jnp.asarray(other)})
    on = methods.gkd(share=1.0)
    assert value(on, moved) == value(on, outputs) != off
    assert value(methods.gkd(share=0.0), moved) != off
    again = dataclasses.replace(outputs, ctx=outputs.ctx._replace(key=jax.random.key(2)))
    assert value(on, again) != value(on, outputs)


def test_a_vocabulary_of_another_size_and_a_missing_text_are_refused(outputs):
    with pytest.raises(UserError, match="expected one vocabulary"):
        _state, _frozen = initialize(distil({**PAIR, "teacher": MODELS["stranger"]}, methods.sequence_kd()), BATCH)
    with pytest.raises(UserError, match="'speech.ids'"):
        methods.gkd(text="speech").init(outputs)
