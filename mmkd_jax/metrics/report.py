"""Classification report: precision, recall, F1 and rows of each class and on average."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64, Integer

from mmkd_jax.errors import UserError
from mmkd_jax.metrics.confusion import ClassCounts, accuracy, confusion_matrix, counts_of
from mmkd_jax.metrics.mean import Mean, mean_over
from mmkd_jax.typing import Count
from mmkd_jax.validation import validated

HEADERS = ("precision", "recall", "f1-score")


class ClassificationReport(NamedTuple):
    """What a classifier does by class; `str` gives the table.

    Attributes:
        names: name of each class.
        counts: hits, predictions and rows by class; its `precision`, `recall` and `f1` are NaN where undefined.
        confusion: rows by label and prediction, [c, c].
        accuracy: share of right rows; NaN without rows.
        macro: name ("precision", "recall", "f1-score") -> `Mean` over the classes where it is defined.
        weighted: the same, weighted by the rows of each class.
    """

    names: tuple[str, ...]
    counts: ClassCounts
    confusion: Int64[np.ndarray, "c c"]
    accuracy: float
    macro: dict[str, Mean]
    weighted: dict[str, Mean]

    def text(self, digits: int = 2) -> str:
        """Format the table; `nan` is undefined, and left out of the averages.

        Args:
            digits: decimal places.
        """
        rows = int(self.counts.support.sum())
        width = max(*map(len, self.names), len("weighted avg"))

        def line(name, values, support):
            return f"{name:>{width}s} " + "".join(f" {v:>9}" for v in values) + f" {support:>9}\n"

        def numbers_of(values):
            return [f"{v:.{digits}f}" for v in values]

        by_class = zip(self.counts.precision, self.counts.recall, self.counts.f1, strict=True)
        lines = [line("", HEADERS, "support"), "\n"]
        lines += [line(*x) for x in zip(self.names, map(numbers_of, by_class), self.counts.support, strict=True)]
        lines += ["\n", line("accuracy", ["", "", *numbers_of([self.accuracy])], rows)]
        for name, means in (("macro avg", self.macro), ("weighted avg", self.weighted)):
            lines.append(line(name, numbers_of(m.value for m in means.values()), rows))
        return "".join(lines)

    def __str__(self) -> str:
        return self.text()


@validated
def classification_report(
    labels: Integer[np.ndarray, " n"],
    predictions: Integer[np.ndarray, " n"],
    classes: Count,
    names: Sequence[str] | None = None,
) -> ClassificationReport:
    """Report precision, recall, F1 and rows of each class, their averages, and the confusion matrix.

    Args:
        labels: [n], from 0 to classes − 1.
        predictions: [n], from 0 to classes − 1.
        classes: c, number of classes.
        names: of the classes; None for 0 … c − 1.

    Returns:
        The numbers; as text, the table of scikit-learn's `classification_report` with `labels=range(classes)` and
        `zero_division=nan`. By default, that function prints 0.00 for what is undefined and averages over it.

    Raises:
        UserError: shapes differ, a label or prediction is out of range, or the number of names is not that of classes.

    Example:
        >>> report = classification_report(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 2, ("cat", "dog"))
        >>> report.accuracy, report.counts.recall.tolist()
        (0.75, [0.5, 1.0])
        >>> print(report)
                      precision    recall  f1-score   support
        <BLANKLINE>
                 cat       1.00      0.50      0.67         2
                 dog       0.67      1.00      0.80         2
        <BLANKLINE>
            accuracy                           0.75         4
           macro avg       0.83      0.75      0.73         4
        weighted avg       0.83      0.75      0.73         4
        <BLANKLINE>
    """
    matrix = confusion_matrix(labels, predictions, classes)
    names = tuple(map(str, range(classes))) if names is None else tuple(names)
    if len(names) != classes:
        raise UserError(f"{len(names)} names for {classes} classes; give one per class, in the order of the labels")
    counts = counts_of(matrix)
    values: dict[str, Float[np.ndarray, " c"]] = dict(
        zip(HEADERS, (counts.precision, counts.recall, counts.f1), strict=True)
    )
    macro = {name: mean_over(x) for name, x in values.items()}
    weighted = {name: mean_over(x, counts.support) for name, x in values.items()}
    return ClassificationReport(names, counts, matrix, accuracy(labels, predictions), macro, weighted)
