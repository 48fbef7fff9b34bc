"""Sequence labeling: metrics by hand, training with and without a CRF, distillation, refusals."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import crf, data, losses
from mmkd_jax.core.model import linen, predict
from mmkd_jax.core.objective import combine, term
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import definition
from mmkd_jax.models import Crf, Tagger, TextBag
from mmkd_jax.tasks import measure, tagging
from mmkd_jax.training import scores
from mmkd_jax.training.init_from import PretrainedVariables
from mmkd_jax.training.roles import Frozen, Trained
from mmkd_jax.training.training import Training
from tests.training.test_loop import fit

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
LENGTH, WORDS = 6, 8


def rows(count=48, seed=0):
    """Words 1 … 7: 1 begins a person, 2 continues it, 3 begins a place; 4 continues what a 3 began."""
    draw = np.random.default_rng(seed)
    ids = draw.integers(1, WORDS, (count, LENGTH)).astype(np.int32)
    label, before = np.zeros_like(ids), np.zeros(count, np.int32)
    for i in range(LENGTH):
        word = ids[:, i]
        inside = (word == 4) & np.isin(before, (3, 4))
        label[:, i] = np.where(word == 1, 1, np.where(word == 2, np.isin(before, (1, 2)) * 2, 0))
        label[:, i] = np.where(word == 3, 3, np.where(inside, 4, label[:, i]))
        before = label[:, i]
    mask = np.arange(LENGTH) < draw.integers(0, LENGTH + 1, count)[:, None]
    return {"text.ids": ids, "text.mask": mask, "label": np.where(mask, label, -1), "label.mask": mask}


COLUMNS = rows()
NET = linen(Crf(Tagger({"text": TextBag(WORDS, 8)}, len(TAGS), 16, window=1)))


def training(task, **changes):
    reader = data.InMemory(data.from_columns(COLUMNS, "made-up"), 16)
    whole = data.InMemory(data.from_columns(COLUMNS, "made-up"), 20)
    how: dict[str, Any] = {"models": {"student": Trained(NET)}, "objective": combine(task=task.objective())}
    how |= {"optimizer": optax.adam(3e-2), "task": task, "data": reader, "validation": whole, "test": whole}
    return Training(**how | {"steps": 60, "evaluate_every": 20, "patience": 2} | changes)


def final(found):
    return {k: np.asarray(x).round(4).tolist() for k, x in found.items()}


def scores_of(task, outputs, batch):
    return final(scores.evaluate(task, lambda _, b: measure(task, outputs, b), None, [batch]))


def test_the_scores_of_tokens_by_hand():
    task = tagging(("NOUN", "VERB", "ADJ"))
    logits = jax.nn.one_hot(jnp.array([[0, 1, 1], [2, 0, 0]]), 3)
    batch = {"label": jnp.array([[0, 1, 0], [1, 0, -7]]), "label.mask": jnp.array([[1, 1, 1], [1, 1, 0]], bool)}
    found = scores_of(task, {"logits": logits}, batch)
    assert found == {
        "accuracy": 0.6,
        "accuracy by tag": pytest.approx([0.6667, 0.5, np.nan], nan_ok=True),
        "f1 by tag": [0.8, 0.5, 0.0],
        "macro f1": 0.4333,
    }
    assert task.metric == "accuracy" and task.rows == () and task.groups == {}


def test_the_scores_of_spans_by_hand():
    """Predicted: a person of two tokens, rightly; a place that begins with I, which strict decoding does not count."""
    task = tagging(TAGS)
    assert task.groups == {"type": ("PER", "LOC")}
    predicted = jnp.array([[1, 2, 0, 4, 0], [0, 0, 3, 0, 0]])
    batch = {"label": jnp.array([[1, 2, 0, 3, 9], [0, 0, 1, 0, 0]]), "valid": jnp.array([True, True])}
    batch["label.mask"] = jnp.array([[True] * 4 + [False], [True] * 5])
    found = scores_of(task, {"logits": jax.nn.one_hot(predicted, 5)}, batch)
    assert task.metric == "span f1"
    # strict: 1 hit of 3 spans, 2 predicted; lenient: "I-LOC" alone is the place B-LOC, so 2 hits of 3, 3 predicted
    assert (found["span f1"], found["span precision"], found["span recall"]) == (0.4, 0.5, 0.3333)
    assert found["span f1 lenient"] == 0.6667
    assert found["span f1 by type"] == [0.6667, 0.0]
    assert found["accuracy"] == round(7 / 9, 4)


def test_a_token_without_a_tag_is_predicted_wrongly_and_is_no_part_of_a_span():
    task = tagging(TAGS)
    outputs = {"logits": jax.nn.one_hot(jnp.array([[1, 2, 1]]), 5), "mask": jnp.array([[True, False, True]])}
    batch = {"label": jnp.array([[1, 2, 1]]), "label.mask": jnp.ones((1, 3), bool)}
    assert task.predict(outputs).tolist() == [[1, -1, 1]]
    found = scores_of(task, outputs, batch)
    assert (found["accuracy"], found["span f1"]) == (0.6667, 0.5)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A CRF after training with early stopping on the F1 of spans."""
    made = training(tagging(TAGS, crf=True))
    return made, *fit(made, tmp_path_factory.mktemp("crf"))


def test_a_crf_is_trained_with_early_stopping_on_the_f1_of_spans(taught):
    made, _, fitted = taught
    looks = [h["span f1"] for h in fitted.history]
    assert fitted.best == max(looks) > 0.9 and made.task.metric == "span f1"
    outputs = predict(NET, fitted.variables["student"], {**COLUMNS, "example_id": np.arange(48)})
    emissions, transitions = outputs["emissions"], outputs["transitions"]
    assert float(jnp.abs(transitions).max()) > 0.1
    decoded = crf.viterbi(emissions, transitions, jnp.asarray(COLUMNS["text.mask"]))
    np.testing.assert_array_equal(outputs["decoded"], decoded)
    assert bool((outputs["decoded"] == -1)[~COLUMNS["text.mask"]].all())


def test_no_bit_of_the_scores_depends_on_the_batch_size(taught):
    made, program, fitted = taught

    def scored(size):
        batches = data.InMemory(data.from_columns(COLUMNS, "made-up"), size).eval_batches()
        found = scores.evaluate(made.task, program.measure, fitted.variables["student"], batches)
        return {k: np.asarray(x).tobytes() for k, x in found.items()}

    assert scored(7) == scored(64)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tokens", "marginals"])
def test_a_student_learns_from_a_crf_without_labels(kind, taught, tmp_path):
    _, _, fitted = taught
    teacher = Frozen(NET, init_from=PretrainedVariables(fitted.variables["student"]))
    small = Tagger({"text": TextBag(WORDS, 4)}, len(TAGS), 8, window=1)
    if kind == "tokens":
        net, soft = linen(small), {"student": "student.logits", "teacher": "teacher.emissions", "where": "label.mask"}
        soft = term(losses.kl, **soft)
    else:
        pairs: Any = {m: (f"{m}.emissions", f"{m}.transitions") for m in ("student", "teacher")}
        net, soft = linen(Crf(small)), term(losses.crf_marginal_kl, mask="batch.label.mask", **pairs)
    models = {"student": Trained(net), "teacher": teacher}
    task = tagging(TAGS, crf=kind == "marginals")
    made = training(task, models=models, objective=combine(soft=soft), steps=150, evaluate_every=50)
    _, found = fit(made, tmp_path / "c", initial_variables={"teacher": fitted.variables["student"]})
    assert found.best > 0.85


def test_a_token_classifier_and_a_crf_start_with_the_same_tags():
    batch = {**COLUMNS, "example_id": np.arange(48)}
    variables = jax.jit(NET.init)(jax.random.key(0), batch)
    outputs = predict(NET, variables, batch)
    np.testing.assert_array_equal(tagging(TAGS).predict(outputs), tagging(TAGS, crf=True).predict(outputs))


def test_scores_of_the_first_and_the_last_tag_are_added_within_the_mask():
    mask = jnp.array([[False, True, True, False], [True, False, False, True], [False] * 4])
    model = linen(Crf(Plain()))
    batch = {"example_id": jnp.arange(3), "text.mask": mask}
    params = model.init(jax.random.key(0), batch)["params"]
    variables = {"params": params | {"start": jnp.array([1.0, 0.0]), "end": jnp.array([0.0, 2.0])}}
    emissions = predict(model, variables, batch)["emissions"]
    edges = [[[0, 0], [1, 0], [0, 2], [0, 0]], [[1, 0], [0, 0], [0, 0], [0, 2]], [[0, 0]] * 4]
    np.testing.assert_array_equal(emissions, edges)


class Plain(nn.Module):
    """A token classifier whose logits are 0."""

    def __call__(self, batch, ctx, patch):
        return {"logits": jnp.zeros((*batch["text.mask"].shape, 2)), "mask": batch["text.mask"]}


REFUSED = {
    "label.mask": ("a column 'label.mask'; there are: label", {"label.mask": None}),
    "kind": (
        r"labels 'label' are float32; .* row 0, column 0 has 0.0",
        {"label": np.zeros((2, 3), np.float32)},
    ),
    "per text": (r"labels 'label' are int32\[2\]; tagging needs integers", {"label": np.zeros(2, np.int32)}),
    "mask dtype": (r"'label.mask' is int32\[2, 3\]; expected bool", {"label.mask": np.ones((2, 3), np.int32)}),
    "mask shape": (r"shape \[2, 3\], 'label.mask' \[2, 4\]", {"label.mask": np.ones((2, 4), bool)}),
    "range": (r"label 5 in row 1, token 2 is out of range \(1 such", {"label": np.array([[0, 1, 9], [0, 0, 5]])}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_labels_are_refused_in_one_line_with_the_first_bad_row(case):
    said, changed = REFUSED[case]
    columns = {"label": np.zeros((2, 3), np.int32), "label.mask": np.array([[True, True, False], [True] * 3])}
    tagging(TAGS).check(columns)
    columns = {k: x for k, x in (columns | changed).items() if x is not None}
    with pytest.raises(UserError, match=said) as error:
        tagging(TAGS).check(columns)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    if case == "range":
        tagging(TAGS).check(columns | {"valid": np.array([True, False])})


def test_a_text_without_labeled_tokens_is_allowed_but_spans_need_one_somewhere():
    columns = {"label": np.zeros((2, 3), np.int32), "label.mask": np.zeros((2, 3), bool)}
    tagging(TAGS).check(columns)
    tagging(("NOUN", "VERB")).check_all(columns)
    with pytest.raises(UserError, match="begin no span, so that their F1 is undefined"):
        tagging(TAGS).check_all(columns)


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        (("O", "B-PER", "I-"), "tag 'I-'; expected O, B-… or I-…"),
        (("O", "B-PER", "S-PER"), ".*convert other schemes, such as BIOES, to IOB2"),
        (("O", "I-PER"), "there is a tag 'I-PER' but no 'B-PER'"),
        (("B", "I", "O"), "tag 'B'; expected O, B-…"),
        (("NOUN", "VERB", "NOUN"), "the tag 'NOUN' occurs twice"),
        ((), r"tags=\(\)"),
    ],
)
def test_tags_are_refused_by_name(tags, said):
    with pytest.raises(UserError, match="tagging: " + said):
        tagging(tags)


@pytest.mark.parametrize("chain", [True, False])
def test_a_head_of_another_width_is_refused_before_the_first_step(chain):
    task = tagging((*TAGS, "B-ORG"), crf=chain)
    with pytest.raises(UserError, match=r"has shape \[20, 6, 5\], for 6 tags: give the model as many"):
        definition.check({"wide": training(task, objective=combine())}, {})


def test_labels_of_pieces_and_logits_of_words_are_refused_before_the_first_step():
    longer = data.from_columns(
        COLUMNS | {k: np.pad(COLUMNS[k], ((0, 0), (0, 1))) for k in ("label", "label.mask")}, "x"
    )
    whole = data.InMemory(longer, 20)
    with pytest.raises(
        UserError, match=r"shape \[20, 6, 5\] and labels 'label' \[20, 7\]: expected one label for each"
    ):
        definition.check({"pieces": training(tagging(TAGS), objective=combine(), validation=whole, test=whole)}, {})


def test_data_with_other_tags_or_another_order_are_refused():
    other = data.InMemory(data.from_columns(COLUMNS, "x", classes=TAGS[::-1]), 16)
    with pytest.raises(UserError, match="classes of the training data are I-LOC, .* of task 'tagging' O, B-PER"):
        training(tagging(TAGS), data=other)


def test_a_crf_with_its_tags_in_another_order_is_refused_and_a_token_classifier_is_matched(taught):
    _, _, fitted = taught
    own = PretrainedVariables(fitted.variables["student"])
    teacher = Frozen(NET, init_from=own, labels=TAGS[::-1])
    soft = term(losses.kl, student="student.logits", teacher="teacher.logits")
    made = training(tagging(TAGS), models={"student": Trained(NET), "teacher": teacher}, objective=combine(soft=soft))
    with pytest.raises(UserError, match="tags of a CRF are I-LOC.*its transitions cannot be reordered"):
        definition.check({"moved": made}, {})


def test_a_cache_refuses_transitions_even_of_as_many_tags_as_rows(taught):
    _, _, fitted = taught
    for size in (16, len(TAGS)):
        own = PretrainedVariables(fitted.variables["student"])
        teacher = Frozen(NET, init_from=own, cache=("logits", "transitions"))
        reader = data.InMemory(data.from_columns(COLUMNS, "x"), size)
        made = training(tagging(TAGS), models={"student": Trained(NET), "teacher": teacher}, data=reader)
        with pytest.raises(UserError, match=r"'transitions' has shape \[5, 5\], not one row for each"):
            made.records("teacher")


def test_emissions_without_a_value_are_refused(taught):
    made, program, fitted = taught
    bad = {**COLUMNS, "example_id": np.arange(48)}
    variables = jax.tree.map(np.array, fitted.variables["student"])
    variables["params"]["start"][0] = np.nan
    with pytest.raises(UserError, match="output 'emissions' is not finite in row"):
        scores.evaluate(made.task, program.measure, variables, [bad])
