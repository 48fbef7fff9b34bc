"""Sequence labeling: one tag for each token, such as parts of speech or IOB2 tags of named entities."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from mmkd_jax import losses, metrics
from mmkd_jax.core.objective import Objective, masks, term
from mmkd_jax.core.task import Task
from mmkd_jax.errors import UserError, shown
from mmkd_jax.numeric import top_class
from mmkd_jax.tasks import _labels


def tagging(
    tags: Sequence[str],
    crf: bool = False,
    *,
    label: str = "label",
    logits: str = "logits",
) -> Task:
    """Sequence labeling, measured by accuracy and F1 over all labeled tokens; for IOB2 tags, by F1 of spans.

    The labels are the batch columns `label`, int32 [b, l], and `label.mask`, bool [b, l]: the tokens that have one,
    such as the first piece of each word. Labels elsewhere are not read. A labeled token outside the model's output
    `mask` gets no tag, and counts as a wrong prediction; for spans it is "O".

    Tags such as "B-PER" and "I-PER" are IOB2 tags. Spans count if type, first and last token are right; "span f1"
    decodes them strictly, "span f1 lenient" as conlleval and seqeval do, see `metrics.decode_spans`.

    Predictions are tags [b, l], −1 where the output `mask` is False. With `crf`, the model is a `models.Crf`: the loss
    is `losses.crf_nll`, and the predictions are the best labelings.

    Args:
        tags: names of the tags, in the order of the labels.
        crf: the model has the outputs `emissions`, `transitions` and `decoded` of `models.Crf`.
        label: name of the labels in the batch; their mask is `LABEL.mask`.
        logits: name of the model's output [b, l, c], without `crf`.

    Raises:
        UserError: a tag occurs twice, or tags are malformed as IOB2.

    Example:
        >>> task = tagging(("O", "B-PER", "I-PER"))
        >>> outputs = {"logits": jnp.array([[[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]])}
        >>> batch = {"label": jnp.array([[1, 2, 2]]), "label.mask": jnp.array([[True, True, False]])}
        >>> [float(x) for x in task.metrics(outputs, batch)["accuracy"]], task.metric
        ([2.0, 2.0], 'span f1')
    """
    names = _checked(tags)
    count, spans = len(names), _is_iob2(names)
    outside = (*names, *(() if "O" in names else ("O",)))
    empty = np.zeros((0, 0), np.int32)
    mask, scored = f"{label}.mask", "emissions" if crf else logits

    def objective(model: str = "student", **options) -> Objective:
        paths: dict[str, Any] = {"logits": f"{model}.{scored}", "labels": f"batch.{label}"}
        if crf:
            chain: dict[str, Any] = {"transitions": f"{model}.transitions", "mask": f"batch.{mask}"}
            return term(losses.crf_nll, **paths, **chain, **options)
        return term(losses.cross_entropy, where=masks(mask, options.pop("where", None)), **paths, **options)

    def predict(outputs):
        scores = outputs[scored]
        if not crf:
            found = top_class(scores).astype(jnp.int32)
            return jnp.where(outputs["mask"], found, -1) if "mask" in outputs else found
        # read with the tags, so that emissions without a value are found wherever these predictions are used
        return jnp.where(jnp.isnan(scores).any(-1), -1, outputs["decoded"])

    def counted(outputs, batch):
        shape, labels = outputs[scored].shape, batch[label]
        if shape[-1] != count:
            raise UserError(
                f"{scored!r} has shape {list(shape)}, for {count} tags: give the model as many, as in Tagger(…, "
                f"tags={count}); the tags of a pretrained one are matched by name, Frozen(…, labels=(…))"
            )
        if len(shape) != 3 or shape[:2] != labels.shape:
            raise UserError(
                f"{scored!r} has shape {list(shape)} and labels {label!r} {list(labels.shape)}: expected one label for "
                "each token; read words with data.tokenize(…, words=…), or repeat the labels for each token"
            )
        if not crf and "decoded" in outputs:
            raise UserError("the model is a Crf, whose best tags the task would not read: tagging(…, crf=True)")
        valid = batch.get("valid", jnp.ones(len(labels), bool))
        here = batch[mask] & valid[:, None]
        found = predict(outputs)
        each = jnp.arange(count, dtype=jnp.int32)
        own, guessed = ((x[..., None] == each) & here[..., None] for x in (labels, found))

        def size(x, *axes):
            return jnp.sum(x.astype(jnp.float32), axes or None)

        hits, support, predicted = (size(x, 0, 1) for x in (own & guessed, own, guessed))
        return {
            "accuracy": (size((found == labels) & here), size(here)),
            "accuracy by tag": (hits, support),
            "f1 by tag": (2 * hits, support + predicted),
        }

    def scores(means):
        return {**means, "macro f1": np.asarray(metrics.mean_over(np.asarray(means["f1 by tag"], np.float64)).value)}

    def whole(rows):
        if not spans:
            return {}
        labels, there = rows.get(f"batch.{label}", empty), rows.get(f"batch.{mask}", empty.astype(bool))
        found = rows.get("predictions", empty)
        found = np.where(found < 0, outside.index("O"), found)
        strict, lenient = (metrics.span_f1(labels, found, outside, there, d) for d in ("strict", "lenient"))
        return {
            "span f1": strict.f1,
            "span precision": strict.precision,
            "span recall": strict.recall,
            "span f1 lenient": lenient.f1,
            "span f1 by type": strict.counts.f1,
        }

    def check(columns):
        valid = np.asarray(columns.get("valid", True)).reshape(-1, 1)
        remedy = "data.word_labels makes both of the tags of each word"
        for name in (mask, label):
            if name not in columns:
                raise UserError(f"tagging needs a column {name!r}; there are: {', '.join(sorted(columns))}; {remedy}")
        there = np.asarray(columns[mask])
        if there.dtype != bool or there.ndim != 2:
            raise UserError(f"{mask!r} is {there.dtype}{list(there.shape)}; expected bool [n, l]: {remedy}")
        values = np.asarray(columns[label])
        if values.ndim != 2:
            kind = f"{values.dtype}{list(values.shape)}"
            raise UserError(f"labels {label!r} are {kind}; tagging needs integers [n, l]: {remedy}")
        if values.shape != there.shape:
            raise UserError(f"labels {label!r} have shape {list(values.shape)}, {mask!r} {list(there.shape)}: {remedy}")
        _labels.check_kind(
            {"valid": there & valid, label: values}, label, np.integer, f"tagging needs integers: {remedy}"
        )
        wrong = np.argwhere(((values < 0) | (values >= count)) & there & valid)
        if len(wrong):
            row, token = wrong[0]
            raise UserError(
                f"label {values[row, token]} in row {row}, token {token} is out of range ({len(wrong)} such tokens): "
                f"labels {label!r} must be 0 … {count - 1} where {mask!r} is True"
            )

    def check_all(columns):
        if not spans:
            return
        begins = np.array([n.startswith("B-") for n in names])
        there = np.asarray(columns[mask]) & np.asarray(columns.get("valid", True)).reshape(-1, 1)
        if not begins[np.asarray(columns[label])[there]].any():
            raise UserError(f"labels {label!r} begin no span, so that their F1 is undefined: take rows with spans")

    return Task(
        "tagging",
        "span f1" if spans else "accuracy",
        objective,
        predict,
        counted,
        check,
        scores,
        True,
        check_all,
        "token_classification",
        ("predictions", f"batch.{label}", f"batch.{mask}") if spans else (),
        whole,
        classes=names,
        size=count,
        label=label,
        groups={"type": metrics.span_f1(empty, empty, outside).types} if spans else {},
    )


def _is_iob2(tags: Sequence[str]) -> bool:
    return any(t.startswith(("B-", "I-")) for t in tags) or {*tags} <= {"B", "I", "O"}


def _checked(tags: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the tags."""
    if isinstance(tags, str) or not all(isinstance(t, str) and t for t in tags) or not len(tags):
        raise UserError(f"tagging: tags={shown(repr(tags))}; expected their names, such as ('NOUN', 'VERB')")
    names = tuple(tags)
    if len({*names}) < len(names):
        twice = next(t for t in names if names.count(t) > 1)
        raise UserError(f"tagging: the tag {shown(twice)!r} occurs twice: give each tag one name")
    if _is_iob2(names):
        try:
            metrics.decode_spans(names, "lenient")
        except UserError as error:
            raise error.within("tagging") from None
        for t in names:
            if t.startswith("I-") and f"B-{t[2:]}" not in names:
                raise UserError(
                    f"tagging: there is a tag {shown(t)!r} but no 'B-{shown(t[2:])}', which begins its spans: add it, "
                    "or convert other schemes, such as IOB1, to IOB2"
                )
    return names
