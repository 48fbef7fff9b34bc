"""It is fetched and prepared whole by `python -m pytest -m slow tests/data/test_sentiment_intensity.py`."""

import io
import tarfile

import numpy as np
import pytest

from mmkd_jax import data
from mmkd_jax.data import commands, dataset, sources

NAME = "sentiment_intensity"
SPLITS = ("train", "validation", "test")
# texts of each source, as its README says (tweets: it says "4,000 plus 200")
COUNTS = {"tweets": 4_200, "films": 10_605, "reviews": 3_708, "editorials": 5_190}


@pytest.mark.slow
def test_it_is_all_there(tmp_path):
    said = commands.prepare(NAME, tmp_path)
    assert said.count("equal to the recorded rows") == 3 and "DIFFERS" not in said
    columns = {s: dataset.load(NAME, s, tmp_path).columns for s in SPLITS}
    every = {k: np.concatenate([c[k] for c in columns.values()]) for k in columns["train"]}
    assert dict(zip(COUNTS, np.bincount(every["source"]).tolist(), strict=True)) == COUNTS
    np.testing.assert_array_equal(np.sort(every["example_id"]), np.arange(sum(COUNTS.values())))
    assert len(columns["test"]["source"]) / len(every["source"]) == pytest.approx(0.17, abs=0.005)

    documents = [set(c["document"].tolist()) for c in columns.values()]
    assert sum(map(len, documents)) == len(set.union(*documents)) == 4_022 + 10_600 + 284 + 498
    words = [{commands._module(NAME).words(t.decode()) for t in c["text"]} for c in columns.values()]
    assert not [w for w in (words[0] | words[1]) & words[2] if len(w) > 2]

    scale = np.arange(-4, 5)
    mean = every["ratings"] @ scale
    np.testing.assert_allclose(np.sqrt(every["ratings"] @ scale**2 - mean**2), every["spread"], atol=1e-4)
    other = np.abs(mean - every["rating"]) > 1e-4
    assert other.sum() == 199 and set(every["source"][other]) == {0}
    np.testing.assert_allclose(every["ratings"].sum(1), 1, atol=1e-6)
    counts = every["ratings"] * every["raters"][:, None]
    np.testing.assert_allclose(counts, counts.round(), atol=1e-4)
    assert [
        (every["raters"][every["source"] == i].min(), every["raters"][every["source"] == i].max()) for i in range(4)
    ] == [
        (20, 99),
        (15, 29),
        (20, 20),
        (20, 20),
    ]
    for i, (m, sd) in enumerate([(0.51, 1.51), (0, 1.92), (0.38, 1.63), (-0.14, 0.88)]):
        own = every["rating"][every["source"] == i]
        assert (own.mean(), own.std()) == pytest.approx((m, sd), abs=0.006)

    texts = [t.decode() for t in every["text"]]
    assert not [t for t in texts if "&amp;" in t or "\ufeff" in t or "\t" in t or t != t.strip() or not t]
    at = {int(i): t for i, t in zip(every["example_id"], texts, strict=True)}
    assert at[2] == (
        "We were 17 deep last night & the love was so strong everybody felt it. Even the band. I love love love having "
        "good ppl in my corner."
    )
    assert at[4_200 + 343].endswith("(Sex and Lucía) makes for an arousing good time.")


def packed(files):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


@pytest.fixture
def small(monkeypatch):
    """An archive of the same layout: ratings behind a byte order mark and in another order."""
    module, files = commands._module(NAME), {}
    for source, file in module.FILES.items():
        ids = [f"{i}_{j}" for i in range(40) for j in (1, 2)] if source in ("reviews", "editorials") else range(80)
        rows = {str(i): [n % 9 - 4, 0] for n, i in enumerate(ids)}
        texts = [f"{i}\t{np.mean(r)}\t{source} &amp;amp; café no {i}.\r\n" for i, r in rows.items()]
        judged = [f"{i}\t{np.mean(r)}\t{np.std(r)}\t{r}\r\n" for i, r in reversed(rows.items())]
        files[f"hutto_ICWSM_2014/{file}_GroundTruth.txt"] = "".join(texts).encode()
        files[f"hutto_ICWSM_2014/{file}_anonDataRatings.txt"] = "".join(judged).encode("utf-8-sig")
    path = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    monkeypatch.setattr(sources, "archive", lambda *_: sources.unpacked(packed({path: packed(files)})))
    module.make.cache_clear()
    yield
    module.make.cache_clear()


def test_a_small_archive_is_read_split_and_found_again(small, tmp_path):
    assert commands.prepare(NAME, tmp_path / "a").count("DIFFERS from the recorded rows") == 3
    commands._module(NAME).make.cache_clear()
    commands.prepare(NAME, tmp_path / "b")
    seen, documents = [], []
    for split, share in (("train", 0.75), ("validation", 0.08), ("test", 0.17)):
        rows = data.load(NAME, split, tmp_path / "a")
        assert rows.fingerprint == data.load(NAME, split, tmp_path / "b").fingerprint
        columns = rows.columns
        assert {k: (x.shape[1:], x.dtype) for k, x in columns.items()} == {
            k: (s.shape, s.dtype) for k, s in rows.spec.items()
        }
        assert np.bincount(columns["source"], minlength=4) / 80 == pytest.approx(share, abs=0.03)
        for i, source, text, rating, ratings, spread in zip(
            *(columns[k].tolist() for k in ("example_id", "source", "text", "rating", "ratings", "spread")), strict=True
        ):
            n = i % 80
            name = f"{n // 2}_{n % 2 + 1}" if source > 1 else n
            assert text.decode() == f"{tuple(COUNTS)[source]} & café no {name}."
            shares = np.zeros(9)
            np.add.at(shares, [n % 9, 4], 0.5)
            assert ratings == shares.tolist() and rating == (n % 9 - 4) / 2 and spread == abs(n % 9 - 4) / 2
        seen += columns["example_id"].tolist()
        documents.append(set(columns["document"].tolist()))
    assert sorted(seen) == list(range(320))
    assert sum(map(len, documents)) == len(set.union(*documents)) == 80 + 80 + 40 + 40


def test_texts_alike_are_one_document():
    documents = commands._module(NAME).documents
    texts = {"5_1": "Wow.", "6_1": "wow!!", "6_2": "I like it", "7_1": "I like it so", "8_1": "...", "9_1": "!"}
    assert documents(list(texts), list(texts.values())) == [0, 0, 0, 0, 1, 2]
    # from four words on: two and three are not yet alike
    assert documents(["1", "2"], ["very good", "very good day"]) == [0, 1]
    # two that lack another word of the same text are not alike, but for that text
    texts = ["a b c d", "b c d e", "z"]
    assert documents(list("123"), texts) == [0, 1, 2]
    assert documents(list("1234"), [*texts, "a b c d e"]) == [0, 0, 1, 0]
