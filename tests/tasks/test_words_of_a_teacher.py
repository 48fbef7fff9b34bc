"""A fine-tuned token classifier teaches a student with another tokenizer: both have logits of words."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import data, losses, pretrained
from mmkd_jax.core.model import linen, predict
from mmkd_jax.core.objective import combine, term
from mmkd_jax.models import Bert, Encoders, Tagger, TextBag, TransformerConfig
from mmkd_jax.tasks import measure, tagging
from mmkd_jax.training import scores
from mmkd_jax.training.roles import Frozen, Trained
from mmkd_jax.training.training import Training
from tests.training.test_loop import fit

TAGS, WORDS, LENGTH = ("O", "B-X", "I-X"), 4, 12
TEXTS = ["I don't know", "they'd go", "a well-known man", "go", "don't they know", "a man"] * 4
NAMED = [[TAGS[(len(w) + i) % 3] if i else TAGS[len(w) % 2] for i, w in enumerate(t.split())] for t in TEXTS]


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """The teacher's pieces end at punctuation, and its tags have another order; the student reads whole words."""
    pieces = data.train_tokenizer(TEXTS, 40, LENGTH, "pieces")
    config = TransformerConfig(embed_dim=8, num_layers=1, num_heads=2, mlp_dim=8)
    module = Encoders({"text": Bert(pieces.vocabulary, config, length=LENGTH)})
    plain = pretrained.Pretrained(module, pretrained.initial(module), None, "bert")
    teacher = pretrained.with_head(plain, ("I-X", "O", "B-X"), "BertForTokenClassification")
    sure = {"kernel": np.random.default_rng(0).normal(0, 2, (8, 3)).astype(np.float32), "bias": np.zeros(3, np.float32)}
    params = {**pretrained.initial(teacher.module)["params"], "heads_logits": {"out": sure}}
    folder = tmp_path_factory.mktemp("teacher")
    pretrained.save(folder, "bert", teacher.module, {"params": params}, labels=teacher.labels)
    teacher = pretrained.with_inputs(pretrained.load(folder), text="pieces")
    words = data.train_tokenizer(TEXTS, 40, WORDS, "words", split="spaces")
    labels = data.word_labels(TEXTS, NAMED, TAGS, WORDS)
    rows = data.from_columns({"text": np.array([t.encode() for t in TEXTS])} | labels, "made-up", classes=TAGS)
    return teacher, words, data.tokenize(rows, {pieces: LENGTH, words: WORDS}, words={pieces: WORDS})


def test_logits_are_those_of_the_first_piece_of_each_word(setting):
    teacher, _, rows = setting
    batch = {k: jnp.asarray(x) for k, x in rows.columns.items()}
    found = jax.jit(lambda v: predict(teacher.model, v, batch))(teacher.variables)
    without = {k: x for k, x in batch.items() if k != "pieces.words"}
    tokens = jax.jit(lambda v: predict(teacher.model, v, without))(teacher.variables)
    assert tokens["logits"].shape == (24, LENGTH, 3) and "mask" not in tokens
    assert found["logits"].shape == (24, WORDS, 3)
    np.testing.assert_array_equal(found["mask"], rows.columns["label.mask"])
    for row, places in enumerate(rows.columns["pieces.words"]):
        assert (places >= 0).sum() == len(TEXTS[row].split())
        for word, place in enumerate(places[places >= 0]):
            np.testing.assert_array_equal(found["logits"][row, word], tokens["logits"][row, place])
    assert rows.columns["pieces.words"][0].tolist() == [0, 1, 4, -1]  # i | don ' t | know


@pytest.mark.full
def test_it_is_distilled_and_measured_by_words(setting, tmp_path):
    teacher, words, rows = setting
    task, loader = tagging(TAGS), data.InMemory(rows, 24)
    shared = {"task": task, "data": loader, "validation": loader, "test": loader, "optimizer": optax.adam(0.1)}
    student = linen(Tagger({"words": TextBag(words.vocabulary, 8)}, 3, 16, window=1))
    soft = term(losses.kl, student="student.logits", teacher="teacher.logits", where="label.mask")
    training = Training(
        {"student": Trained(student), "teacher": Frozen(teacher)},
        combine(soft=soft),
        steps=60,
        evaluate_every=20,
        select="last",
        **shared,
    )
    _, fitted = fit(training, tmp_path, initial_variables={"teacher": teacher.variables})
    assert fitted.history[-1]["loss"] < 0.2 * fitted.history[0]["loss"]
    alone = Training.evaluation(teacher, task, loader, loader)

    def answer(name, of, variables):
        def tags(v, batch):
            outputs = of.run(name)(v, batch)
            return measure(task, outputs, batch), task.predict(outputs)

        run = jax.jit(tags)
        found = scores.evaluate(task, lambda v, batch: run(v, batch)[0], variables, loader.eval_batches())
        return found, np.asarray(run(variables, next(iter(loader.eval_batches())))[1])

    theirs, ours = answer("teacher", alone, teacher.variables), answer("student", training, fitted.variables["student"])
    seen = rows.columns["label.mask"]
    assert (theirs[1][~seen] == -1).all() and (ours[1] == theirs[1])[seen].mean() > 0.9
    assert ours[0].keys() == theirs[0].keys() and {"span f1", "accuracy"} <= ours[0].keys()
    own = np.argsort([TAGS.index(t) for t in teacher.labels])  # our tag -> column of the teacher's logits
    batch = {k: jnp.asarray(x) for k, x in rows.columns.items()}
    raw = predict(teacher.model, teacher.variables, batch)["logits"]
    np.testing.assert_array_equal(theirs[1][seen], np.asarray(raw[..., own].argmax(-1))[seen])
