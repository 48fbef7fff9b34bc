"""Retrieval: metrics by enumeration, ties, repeated documents, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import data
from mmkd_jax.core.model import StepContext, linen, plain, predict
from mmkd_jax.core.objective import total
from mmkd_jax.core.outputs import Outputs
from mmkd_jax.errors import UserError
from mmkd_jax.metrics import similarities
from mmkd_jax.models import BiEncoder, TextBag
from mmkd_jax.tasks import measure, retrieval
from mmkd_jax.training import scores

DRAW = np.random.default_rng(0)


def enumerated(x, y, relevant, k, recall):
    """The metrics of each query, from a full sort without ties."""
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x.astype(float), y.astype(float)))
    found = {n: [] for n in (f"nDCG@{k}", f"MRR@{k}", *(f"recall@{r}" for r in recall))}
    for i in range(len(x)):
        hits = relevant[i][np.argsort(-(x[i] @ y.T))]
        if not hits.any():
            continue
        gains = 1 / np.log2(np.arange(2, k + 2))
        found[f"nDCG@{k}"].append((hits[:k] * gains).sum() / gains[: hits.sum()].sum())
        found[f"MRR@{k}"].append(1 / (1 + np.argmax(hits)) if hits[:k].any() else 0)
        for r in recall:
            found[f"recall@{r}"].append(hits[:r].sum() / hits.sum())
    return {n: np.mean(v) for n, v in found.items()}


def test_metrics_are_those_of_a_full_sort_in_both_directions():
    x, y = DRAW.normal(size=(2, 30, 4)).astype(np.float32)
    y += x
    found = retrieval(recall=(1, 10)).whole({"query": x, "document": y})
    relevant = np.eye(30, dtype=bool)
    for one, other, suffix in ((x, y, ""), (y, x, " document → query")):
        for name, value in enumerated(one, other, relevant, 10, (1, 10)).items():
            assert found[name + suffix] == pytest.approx(value, abs=1e-12), name
    assert found["queries left out"] == found["documents left out"] == 0


def test_repeated_documents_are_one_and_rows_without_a_query_are_part_of_the_collection():
    """Two queries share document 7; one query has two documents; a document has no query, and a query no document."""
    x, y = DRAW.normal(size=(2, 6, 4)).astype(np.float32)
    query_id, document_id = np.array([0, 1, 2, 2, -1, 3]), np.array([7, 7, 1, 2, 3, -1])
    y[1], x[3] = y[0], x[2]
    task = retrieval(query_id="q", document_id="d", k=2, recall=(1,))
    found = task.whole({"query": x, "document": y, "batch.q": query_id, "batch.d": document_id})
    queries, documents = x[[0, 1, 2, 5]], y[[2, 3, 4, 0]]  # documents 1, 2, 3, 7
    relevant = np.array([[0, 0, 0, 1], [0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]], bool)
    for one, other, pairs, suffix in (
        (queries, documents, relevant, ""),
        (documents, queries, relevant.T, " document → query"),
    ):
        for name, value in enumerated(one, other, pairs, 2, (1,)).items():
            assert found[name + suffix] == pytest.approx(value, abs=1e-12), name
    assert found["queries left out"] == found["documents left out"] == 1


def test_equal_documents_have_equal_scores_to_the_bit():
    x = DRAW.normal(size=(5, 33))
    y = np.tile(DRAW.normal(size=(1, 33)), (257, 1))
    for kind in ("cosine", "dot"):
        assert all(len(set(row)) == 1 for row in similarities(x, y, similarity=kind).tolist())
    np.testing.assert_allclose(similarities(x, y, similarity="dot"), x @ y.T)
    assert similarities(0 * x, y).tolist() == np.zeros((5, 257)).tolist()


NET = linen(BiEncoder(TextBag(40, 8), TextBag(30, 6), query="question", document="answer", width=5))
COLUMNS = {f"{side}.ids": DRAW.integers(0, 30, (100, 3)).astype(np.int32) for side in ("question", "answer")}
COLUMNS |= {f"{side}.mask": np.ones((100, 3), bool) for side in ("question", "answer")}
COLUMNS |= {"topic": np.repeat(np.arange(50), 2).astype(np.int32), "example_id": DRAW.permutation(100).astype(np.int32)}
COLUMNS["answer.ids"] = np.repeat(COLUMNS["answer.ids"][::2], 2, 0)  # of two questions each


@pytest.mark.parametrize("task", [retrieval(), retrieval(document_id="topic", recall=(1, 10))], ids=["rows", "ids"])
def test_no_bit_depends_on_the_batch_size(task):
    variables = jax.jit(NET.init)(jax.random.key(0), {k: jnp.asarray(v) for k, v in COLUMNS.items()})
    run = jax.jit(lambda variables, batch: measure(task, predict(NET, variables, batch), batch))
    found = []
    for size in (7, 64):
        batches = data.InMemory(data.from_columns(COLUMNS, "made-up"), size).eval_batches()
        found.append({k: v.tolist() for k, v in scores.evaluate(task, run, variables, batches).items()})
    assert found[0] == found[1] and 0 < found[0]["nDCG@10"] < 1


def test_the_objective_trains_both_sides_and_knows_repeated_documents():
    task = retrieval("a", "b", document_id="number")
    x, y = (jnp.asarray(DRAW.normal(size=(4, 3)), jnp.float32) for _ in range(2))
    objective = task.objective("pupil", where="good", weight=2.0)

    def value(x, y, number):
        batch = {"number": number, "good": jnp.array([True, True, True, False])}
        outputs = Outputs(batch, {"pupil": {"a": x, "b": y}}, {}, StepContext(0, jax.random.key(0)))
        return total(objective.apply(*objective.init(outputs), outputs)[0])[0]

    slopes = jax.grad(value, (0, 1))(x, y, jnp.array([0, 1, 2, 3]))
    assert all(np.abs(g[:3]).min() > 0 and not g[3].any() for g in map(np.asarray, slopes))
    assert float(value(x, y, jnp.array([5, 5, 5, 5]))) == 0  # one document: nothing to tell apart
    assert np.isnan(value(x, y, jnp.array([0, -1, 2, 3]))) and np.isfinite(value(x, y, jnp.array([0, 1, 2, -1])))


def test_predictions_are_the_similarities_of_the_rows():
    x, y = jnp.array([[3.0, 0.0], [0.0, 0.0]]), jnp.array([[1.0, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(retrieval().predict({"query": x, "document": y}), [0.5**0.5, 0], rtol=1e-6)
    assert retrieval(similarity="dot").predict({"query": x, "document": y}).tolist() == [3.0, 0.0]


IDS = retrieval(query_id="q", document_id="d")
FIVE = np.arange(5)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"d": FIVE}, "retrieval needs a column 'q', query_id; there are: d"),
        ({"q": FIVE.astype(np.float32), "d": FIVE}, "query_id 'q' is float32; retrieval needs one integer a row"),
        ({"q": FIVE, "d": np.array([b"a"] * 5)}, r"document_id 'd' is .S1; retrieval needs one integer a row"),
        ({"q": FIVE, "d": np.array([0, -3, 1, -2, 4])}, r"document_id -3 in row 1 is negative \(2 such rows\)"),
        (
            {"q": np.array([0, -1, 1, -1, 4]), "d": np.array([0, -1, 1, 2, 4])},
            "row 1 has neither a query nor a document",
        ),
    ],
)
def test_bad_numbers_are_refused_by_row(columns, said):
    with pytest.raises(UserError, match=said):
        IDS.check(columns)
    IDS.check({k: FIVE for k in ("q", "d")} | {"valid": np.zeros(5, bool)})


def test_rows_that_are_not_valid_may_have_any_number():
    IDS.check({"q": np.array([0, -9]), "d": np.array([0, -9]), "valid": np.array([True, False])})


def test_what_no_collection_allows_is_refused_before_the_first_step():
    rows = {"x": np.zeros(40)}
    with pytest.raises(UserError, match="recall@100 needs as many queries, and there are 40: lower it, with k= or rec"):
        retrieval().check_all(rows)
    with pytest.raises(UserError, match="nDCG@10 needs as many documents, and there are 2"):
        retrieval(document_id="d", recall=(1,)).check_all(rows | {"d": np.arange(40) % 2})
    with pytest.raises(UserError, match="no row has both a query and a document"):
        IDS.check_all({"q": np.array([0, -1]), "d": np.array([-1, 0])})
    assert retrieval(recall=(1, 10, 40)).check_all(rows) is None


@pytest.mark.parametrize("shapes", [((4, 3), (4, 2)), ((4,), (4,)), ((4, 2, 3), (4, 2, 3))])
def test_outputs_that_cannot_be_compared_are_refused(shapes):
    outputs = dict(zip(("query", "document"), map(jnp.zeros, shapes), strict=True))
    with pytest.raises(UserError, match=r"outputs of equal shape \[b, d\]; found 'query'"):
        retrieval().metrics(outputs, {})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 0}, "retrieval: k is 0; expected a whole number, 1 or more"),
        ({"recall": (1, 0)}, r"recall=\(1, 0\) has 0; expected numbers of ranks, at least 1"),
        ({"recall": 10}, "retrieval: recall is 10 .int.; expected a tuple"),
        ({"similarity": "euclid"}, "retrieval: similarity is 'euclid'; expected 'cosine' or 'dot'"),
    ],
)
def test_options_are_checked(options, said):
    with pytest.raises(UserError, match=said):
        retrieval(**options)


def test_an_output_that_is_not_finite_is_refused():
    net = plain(lambda params, batch: {"query": batch["x"], "document": batch["x"]})
    x = np.where(np.arange(20)[:, None] == 3, np.nan, DRAW.normal(size=(20, 2))).astype(np.float32)
    batches = data.InMemory(data.from_columns({"x": x}, "made-up"), 8).eval_batches()
    task = retrieval(recall=(1,))
    with pytest.raises(UserError, match="output 'document' is not finite in row 3"):
        scores.evaluate(task, lambda v, b: measure(task, predict(net, v, b), b), {"params": {}}, batches)
