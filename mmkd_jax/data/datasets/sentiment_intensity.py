"""Sentiment intensity: 23,703 texts from four sources, each rated from −4 to 4 by about 20 people."""

import functools
import html
import itertools
import json
import re
from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds

from mmkd_jax.data import sources
from mmkd_jax.data.splits import joined, split

FILES = {
    "tweets": "tweets",
    "films": "movieReviewSnippets",
    "reviews": "amazonReviewSnippets",
    "editorials": "nytEditorialSnippets",
}
SHARES = {"test": 0.17, "validation": 0.08}
"""Share of the rows of each source; the remaining rows are for training."""
LENGTHS = {"text": "S900"}

CONTENT = {
    "train": "027751fe4335c04b531c16ea92ad62f5083b320a2453c8ac00969e14e4c25f9f",
    "validation": "8f866f79901b69c1c2a5059c1c1b3fc08b3f8054edab422dcbb5f466624e58fa",
    "test": "ea4cba3f15ceb7b7756ac2c4019b9ec80233ef9bd2d764aea14d625e68291228",
}
"""`dataset.content_hash` of the decoded rows."""

ABOUT = {
    "text": "English, UTF-8; in tweets, names are @anonymous and addresses http://url_removed",
    "rating": "the published mean, −4 (extremely negative) … 4 (extremely positive)",
    "ratings": "shares of the raters that chose −4, −3 … 4: a soft label of nine classes; their mean is the rating, "
    "except for 199 tweets (deliberate variations and their originals), whose published means are of other ratings "
    "(≤ 1.13 apart)",
    "raters": "number of raters: 20 for most texts, 92 to 99 for 1,000 tweets, 15 to 29 for films",
    "spread": "standard deviation of the individual ratings",
    "source": list(FILES),
    "document": "a review, an editorial, a tweet or a film snippet; documents of one source count as one if they "
    "share a text, or texts of four words or more that differ by one additional word",
    "splits": "by document, within each source: 75 % train, 8 % validation, 17 % test",
    "sources": "vaderSentiment 3.3.2, source archive (MIT; the texts are their authors'): Hutto and Gilbert, VADER: A "
    "Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text, ICWSM 2014; film snippets after Pang "
    "and Lee 2005, product reviews after Hu and Liu 2004",
}

_SEED = 20_261_127


class SentimentIntensity(tfds.core.GeneratorBasedBuilder):
    """Texts with the mean, the spread and the histogram of their ratings."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        f = tfds.features
        features = f.FeaturesDict(
            {
                "text": f.Text(),
                "rating": f.Scalar(np.float32),
                "spread": f.Scalar(np.float32),
                "ratings": f.Tensor(shape=(9,), dtype=np.float32, encoding="zlib"),
                "raters": f.Scalar(np.int32),
                "source": f.ClassLabel(names=list(FILES)),
                "document": f.Scalar(np.int32),
                "example_id": f.Scalar(np.int64),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(rows) for name, rows in make().items()}

    def _generate_examples(self, rows):
        for row in rows:
            yield row["example_id"], row


@functools.cache
def make() -> dict[str, list[dict]]:
    """Build all rows of all splits from the sources."""
    sha256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
    package = sources.archive("vaderSentiment", "3.3.2", sha256)
    inside = sources.unpacked(package["vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"])
    draw = np.random.default_rng(_SEED)
    rows: dict[str, list[dict]] = {name: [] for name in ("train", "validation", "test")}
    example, number = itertools.count(), 0
    for source, file in FILES.items():
        path = f"hutto_ICWSM_2014/{file}"
        texts, judged = (_table(inside[f"{path}_{end}.txt"]) for end in ("GroundTruth", "anonDataRatings"))
        texts = {i: (float(mean), readable(text)) for i, mean, text in texts}
        single = {i: np.array(json.loads(values)) for i, _, _, values in judged}  # ordered differently
        lots = documents(list(texts), [text for _, text in texts.values()])
        splits = split(draw, lots, SHARES)
        for (i, (mean, text)), lot, where in zip(texts.items(), lots, splits, strict=True):
            rows[where].append(
                {
                    "text": text,
                    "rating": mean,
                    "spread": single[i].std(),
                    "ratings": (np.bincount(single[i] + 4, minlength=9) / len(single[i])).astype(np.float32),
                    "raters": len(single[i]),
                    "source": source,
                    "document": number + lot,
                    "example_id": next(example),
                }
            )
        number += max(lots) + 1
    return rows


def readable(text: str) -> str:
    """Unescape HTML entities, twice because some ampersands were escaped twice, and strip whitespace.

    Example:
        >>> readable(" H &amp;amp; R Block &lt;3")
        'H & R Block <3'
    """
    return html.unescape(html.unescape(text)).strip()


def documents(ids: Sequence[str], texts: Sequence[str]) -> list[int]:
    """Return the document index of each text: the id prefix before "_", merged if two documents share a text.

    Texts count as the same if they differ only in case and punctuation or, with four or more words, by one additional
    word: some tweets are deliberate variations ("Anger is ugly.", "ANGER is VERY ugly!!").

    Example:
        >>> documents(["1_1", "1_2", "2_1", "3"], ["Fine.", "A long day.", "Bad.", "A very long day!"])
        [0, 0, 1, 0]
    """
    tokens = [words(text) for text in texts]
    known = set(tokens) - {()}
    keys = []
    for i, whole in zip(ids, tokens, strict=True):
        shorter = [whole[:k] + whole[k + 1 :] for k in range(len(whole))] if len(whole) > 3 else []
        keys.append([i.split("_")[0], *(same for same in (whole, *shorter) if same in known)])
    return joined(keys)


def words(text: str) -> tuple[str, ...]:
    """Return the lowercased words of a text, for comparison."""
    return tuple(re.findall(r"\w+", text.lower()))


def _table(data):
    lines = data.decode("utf-8-sig").split("\r\n")
    return [line.split("\t") for line in lines if line]
