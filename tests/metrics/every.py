"""Every metric of rows, as a function of columns, and columns that suit all of them."""

from collections.abc import Callable, Mapping

import numpy as np

from mmkd_jax import metrics

Columns = Mapping[str, np.ndarray]
CLASSES = 3


def columns(seed: int = 0, count: int = 60) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, CLASSES, count)
    return {
        "labels": labels,
        "predictions": np.where(draw.random(count) < 0.6, labels, draw.integers(0, CLASSES, count)),
        "positive": draw.random(count) < 0.4,
        "answers": draw.random(count) < 0.5,
        "scores": np.round(draw.normal(size=count), 1),
        "class_scores": np.round(draw.normal(size=(count, CLASSES)) + np.eye(CLASSES)[labels], 1),
        "probabilities": metrics.softmax(np.round(draw.normal(size=(count, CLASSES)), 1)),
        "targets": draw.normal(size=count),
        "values": draw.normal(size=count),
        "times": draw.integers(1, 20, count),
        "grades": draw.integers(0, 3, count) / 3,
        "queries": draw.integers(0, 7, count),
        "tags": draw.integers(0, 3, (count, 5)),
        "predicted_tags": draw.integers(0, 3, (count, 5)),
        "groups": draw.choice(["a", "b"], count),
    }


def _retrieval(name: str, **options) -> Callable[[Columns], metrics.Mean]:
    return lambda r: getattr(metrics, name)(r["scores"], r["grades"], r["queries"], **options)


def _labels(name: str) -> Callable[[Columns], object]:
    return lambda r: getattr(metrics, name)(r["labels"], r["predictions"], CLASSES)


def _probabilities(name: str) -> Callable[[Columns], float]:
    return lambda r: getattr(metrics, name)(r["labels"], r["probabilities"])


def _class_scores(name: str) -> Callable[[Columns], object]:
    return lambda r: getattr(metrics, name)(r["labels"], r["class_scores"])


TAGS = ("O", "B-A", "I-A")
EVERY: dict[str, Callable[[Columns], object]] = {
    **{n: _labels(n) for n in ("macro_f1", "micro_f1", "weighted_f1", "balanced_accuracy", "quadratic_kappa")},
    "accuracy": lambda r: metrics.accuracy(r["labels"], r["predictions"]),
    "auroc": lambda r: metrics.auroc(r["positive"], r["scores"]),
    "average_precision": lambda r: metrics.average_precision(r["positive"], r["scores"]),
    "sensitivity_at_specificity": lambda r: metrics.sensitivity_at_specificity(r["positive"], r["scores"], 0.9),
    "precision_at_recall": lambda r: metrics.precision_at_recall(r["positive"], r["scores"], 0.8),
    **{n: _class_scores(n) for n in ("mean_auroc", "mean_average_precision", "micro_average_precision")},
    "label_ranking_average_precision": _class_scores("label_ranking_average_precision"),
    **{n: _probabilities(n) for n in ("expected_calibration_error", "adaptive_calibration_error")},
    **{n: _probabilities(n) for n in ("brier", "negative_log_likelihood")},
    "concordance_correlation": lambda r: metrics.concordance_correlation(r["values"], r["targets"]),
    "concordance_index": lambda r: metrics.concordance_index(r["times"], r["positive"], r["scores"]),
    **{n: _retrieval(n, k=4) for n in ("ndcg", "recall_at", "precision_at", "hit_rate", "retrieval_map")},
    "reciprocal_rank": _retrieval("reciprocal_rank"),
    "span_f1": lambda r: metrics.span_f1(r["tags"], r["predicted_tags"], TAGS).f1,
    "acc2": lambda r: metrics.sentiment_scores(r["values"], r["targets"]).acc2_positive,
    "f1_nonnegative": lambda r: metrics.sentiment_scores(r["values"], r["targets"]).f1_nonnegative,
    "demographic_parity": lambda r: metrics.demographic_parity(r["answers"], r["groups"], least=5).gap,
    "equalized_odds": lambda r: metrics.equalized_odds(r["positive"], r["answers"], r["groups"], least=5).gap,
}


def number(found: object) -> float:
    value = found.value if isinstance(found, metrics.Mean) else found
    assert type(value) is float, type(value)
    return value
