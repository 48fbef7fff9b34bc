"""It is fetched and prepared whole by `python -m pytest -m slow tests/data/test_brown.py`."""

import numpy as np
import pytest

from mmkd_jax import data
from mmkd_jax.data import commands, sources

MODULE = commands._module("brown")
SPLITS = ("train", "validation", "test")


@pytest.mark.slow
def test_it_is_all_there(tmp_path):
    said = commands.prepare("brown", tmp_path)
    assert said.count("equal to the recorded rows") == 3 and "DIFFERS" not in said
    columns = {s: data.load("brown", s, tmp_path).columns for s in SPLITS}
    every = {k: np.concatenate([c[k] for c in columns.values()]) for k in columns["train"]}
    np.testing.assert_array_equal(np.sort(every["example_id"]), np.arange(53_112))
    documents = [{*c["document"].tolist()} for c in columns.values()]
    assert sum(map(len, documents)) == len(set.union(*documents)) == 500 and {*every["genre"]} == {*range(15)}
    assert [len(c["genre"]) / 53_112 for c in columns.values()] == pytest.approx([0.57, 0.115, 0.315], abs=0.005)
    words, tags = ([t.decode().split() for t in every[k]] for k in ("text", "tags"))
    assert [len(x) for x in words] == [len(x) for x in tags] and max(map(len, words)) == 40
    assert {t for x in tags for t in x} == {*MODULE.TAGS}


def test_a_document_in_the_form_of_the_corpus(monkeypatch):
    """Two documents of each of two genres: one word a tag, long sentences and empty lines left out."""
    line = "\tThe/at dogs/nns don't/do* bark/vb !/.\n\n\n"
    long = "\t" + " ".join(["so/rb"] * 41) + "\n"
    package = {f"package/c{i}": (line + long + line).encode() for i in range(4)}
    package["package/cats.txt"] = b"c0 news\nc1 news\nc2 lore\nc3 lore\n"
    monkeypatch.setattr(sources, "npm", lambda *pinned: package)
    rows = MODULE.make.__wrapped__()
    every = [row for each in rows.values() for row in each]
    assert len(every) == 8 and sorted(row["example_id"] for row in every) == [*range(8)]
    for row in every:
        assert (row["text"], row["tags"]) == ("The dogs don't bark !", "DET NOUN VERB VERB .")
    documents = {k: {row["document"] for row in each} for k, each in rows.items()}
    assert sum(map(len, documents.values())) == 4 and documents["test"]
