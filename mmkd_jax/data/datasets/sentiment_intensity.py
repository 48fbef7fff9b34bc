"""Sentiment intensity: 23,703 texts of four sources, each rated from −4 to 4 by some 20 people."""

import functools
import html
import itertools
import json
import re

import numpy as np
import tensorflow_datasets as tfds

from mmkd_jax.data import sources

FILES = {
    "tweets": "tweets",
    "films": "movieReviewSnippets",
    "reviews": "amazonReviewSnippets",
    "editorials": "nytEditorialSnippets",
}
SHARES = {"test": 0.17, "validation": 0.08}
"""Of the rows of each source; the rest is for training."""
LENGTHS = {"text": "S900"}

ABOUT = {
    "classes": list(FILES),
    "text": "English, UTF-8; in tweets, names are @anonymous and addresses http://url_removed",
    "rating": "the published mean, −4 (extremely negative) … 4 (extremely positive)",
    "ratings": "shares of the raters who said −4, −3 … 4: a soft label of nine classes; their mean is the rating, but "
    "for 199 contrived tweets, whose published means are of other raters than the single ratings (up to 1.13 apart)",
    "raters": "how many: 20 for most texts, 92 to 99 for 1,000 tweets, 15 to 29 for films",
    "spread": "standard deviation of the single ratings",
    "source": "tweets, film snippets, sentences of product reviews, sentences of newspaper editorials",
    "document": "a review, an editorial, a tweet or a film snippet; those that share a text, or whose texts differ by "
    "one word only, count as one",
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
        return {split: self._generate_examples(rows) for split, rows in make().items()}

    def _generate_examples(self, rows):
        for row in rows:
            yield row["example_id"], row


@functools.cache
def make() -> dict[str, list[dict]]:
    """Every row of every split."""
    sha256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
    package = sources.archive("vaderSentiment", "3.3.2", sha256)
    inside = sources.unpacked(package["vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"])
    draw = np.random.default_rng(_SEED)
    made: dict[str, list[dict]] = {split: [] for split in ("train", "validation", "test")}
    example, number = itertools.count(), itertools.count()
    for source, file in FILES.items():
        path = f"hutto_ICWSM_2014/{file}"
        texts, judged = (_table(inside[f"{path}_{end}.txt"]) for end in ("GroundTruth", "anonDataRatings"))
        texts = {i: (float(mean), readable(text)) for i, mean, text in texts}
        single = {i: np.array(json.loads(values)) for i, _, _, values in judged}  # in another order
        document = documents({i: text for i, (_, text) in texts.items()})
        split_of = _splits(draw, list(document.values()))
        numbers = {d: next(number) for d in split_of}
        for i, (mean, text) in texts.items():
            made[split_of[document[i]]].append(
                {
                    "text": text,
                    "rating": mean,
                    "spread": single[i].std(),
                    "ratings": (np.bincount(single[i] + 4, minlength=9) / len(single[i])).astype(np.float32),
                    "raters": len(single[i]),
                    "source": source,
                    "document": numbers[document[i]],
                    "example_id": next(example),
                }
            )
    return made


def readable(text: str) -> str:
    """Without the marks of web pages; an ampersand was escaped twice now and then.

    Example:
        >>> readable(" H &amp;amp; R Block &lt;3")
        'H & R Block <3'
    """
    return html.unescape(html.unescape(text)).strip()


def documents(texts: dict[str, str]) -> dict[str, str]:
    """The document of each text: what its id names before "_", joined where two share a text.

    Two texts are the same that differ in case and punctuation only, or, from four words on, by one further word: some
    tweets were varied on purpose ("Anger is ugly.", "ANGER is VERY ugly!!").

    Example:
        >>> documents({"1_1": "Fine.", "1_2": "A long day.", "2_1": "Bad.", "3": "A very long day!"})
        {'1_1': '1', '1_2': '1', '2_1': '2', '3': '1'}
    """
    joined = {i.split("_")[0]: i.split("_")[0] for i in texts}

    def first(document):
        while joined[document] != document:
            document = joined[document]
        return document

    spoken = {i: words(text) for i, text in texts.items()}
    known: dict[tuple[str, ...], str] = {}
    for i, own in spoken.items():
        known.setdefault(own, i.split("_")[0])
    for i, own in spoken.items():
        less = [own[:k] + own[k + 1 :] for k in range(len(own))] if len(own) > 3 else []
        for same in [own, *less] if own else []:
            a, b = first(i.split("_")[0]), first(known.get(same, i.split("_")[0]))
            joined[max(a, b, key=int)] = min(a, b, key=int)
    return {i: first(i.split("_")[0]) for i in texts}


def words(text: str) -> tuple[str, ...]:
    """A text's words, for comparing."""
    return tuple(re.findall(r"\w+", text.lower()))


def _splits(draw, rows):
    """Document -> split: in random order, until a split has its share of the rows."""
    sizes = {d: 0 for d in rows}
    for d in rows:
        sizes[d] += 1
    room = {split: share * len(rows) for split, share in SHARES.items()}
    found = dict.fromkeys(sizes, "train")
    for d in draw.permutation(list(sizes)):
        split = next((s for s in room if room[s] > 0), "train")
        found[str(d)] = split
        room[split] = room.get(split, 0) - sizes[str(d)]
    return found


def _table(data):
    lines = data.decode("utf-8-sig").split("\r\n")
    return [line.split("\t") for line in lines if line]
