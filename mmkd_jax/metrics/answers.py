"""Answers to questions: exact match and F1 of tokens, as SQuAD defines them."""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from mmkd_jax.errors import UserError, shown
from mmkd_jax.metrics.mean import Mean, mean_over
from mmkd_jax.validation import validated

Language = Literal["en", "zh"]
_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"


@validated
def answer_tokens(text: str, language: Language = "en") -> list[str]:
    """Split a normalized answer into the tokens that `exact_match` and `token_f1` compare.

    Args:
        text: an answer.
        language: "en": lower case, without ASCII punctuation and a, an, the, split at white space. "zh": lower case,
            without punctuation of any script; each Chinese character is a token, other runs are split at white space.

    Example:
        >>> answer_tokens("The Eiffel-Tower!"), answer_tokens("在 1889年。", "zh")
        (['eiffeltower'], ['在', '1889', '年'])
    """
    text = text.lower()
    if language == "zh":
        text = "".join(c for c in text if c not in string.punctuation and not unicodedata.category(c).startswith("P"))
        return re.findall(rf"[{_IDEOGRAPHS}]|[^\s{_IDEOGRAPHS}]+", text)
    text = "".join(c for c in text if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def _best(
    score: Callable[[list[str], list[str]], float],
    predictions: Sequence[str],
    answers: Sequence[Sequence[str]],
    language: Language,
) -> Mean:
    if isinstance(predictions, str) or len(predictions) != len(answers):
        found = f"the text {shown(predictions)!r}" if isinstance(predictions, str) else f"{len(predictions)} texts"
        raise UserError(f"predictions are {found} for {len(answers)} questions; expected one text for each")
    values = []
    for i, (prediction, accepted) in enumerate(zip(predictions, answers, strict=True)):
        if isinstance(accepted, str) or not len(accepted):
            found = f"the text {shown(accepted)!r}" if isinstance(accepted, str) else "empty"
            raise UserError(
                f"answers[{i}] is {found}; expected a list of the accepted answers, [''] for a question without one"
            )
        tokens = answer_tokens(prediction, language)
        values.append(max(score(tokens, answer_tokens(a, language)) for a in accepted))
    return mean_over(np.array(values, np.float64))


def exact_match(predictions: Sequence[str], answers: Sequence[Sequence[str]], language: Language = "en") -> Mean:
    """Exact match (EM): share of the questions whose normalized prediction is one of the normalized answers.

    Args:
        predictions: one text per question.
        answers: the accepted answers of each question; `[""]` if it has no answer.
        language: "en" or "zh", as in `answer_tokens`.

    Returns:
        `Mean` over questions; NaN without any.

    Raises:
        UserError: their numbers differ, or a question has a text or nothing in place of a list of answers.

    Source: Rajpurkar et al., SQuAD: 100,000+ Questions for Machine Comprehension of Text, 2016,
        https://arxiv.org/abs/1606.05250

    Example:
        >>> exact_match(["the Seine", "1890"], [["Seine", "river Seine"], ["1889"]]).value
        0.5
    """
    return _best(lambda found, accepted: float(found == accepted), predictions, answers, language)


def token_f1(predictions: Sequence[str], answers: Sequence[Sequence[str]], language: Language = "en") -> Mean:
    """Token F1 of answers: overlap of the bags of tokens, the best over the accepted answers.

    Formula: mean_q max_a 2 |P ∩ A|/(|P| + |A|), P and A the bags of tokens of prediction and answer; 1 if both
    are empty

    Args:
        predictions: one text per question.
        answers: the accepted answers of each question; `[""]` if it has no answer.
        language: "en" or "zh", as in `answer_tokens`.

    Returns:
        `Mean` over questions; NaN without any.

    Raises:
        UserError: their numbers differ, or a question has a text or nothing in place of a list of answers.

    Source: Rajpurkar et al., SQuAD: 100,000+ Questions for Machine Comprehension of Text, 2016,
        https://arxiv.org/abs/1606.05250; no answer: Know What You Don't Know, 2018, https://arxiv.org/abs/1806.03822;
        Chinese: Cui et al., A Span-Extraction Dataset for Chinese Machine Reading Comprehension, 2018,
        https://arxiv.org/abs/1810.07366

    Example:
        >>> round(token_f1(["the river Seine"], [["Seine"]]).value, 4), token_f1([""], [[""]]).value
        (0.6667, 1.0)
    """

    def score(found, accepted):
        shared = sum((Counter(found) & Counter(accepted)).values())
        size = len(found) + len(accepted)
        return 2 * shared / size if size else 1.0

    return _best(score, predictions, answers, language)
