"""Words of texts: their first tokens, the labels of their tags, and tokens of a tagger's student."""

import jax
import numpy as np
import pytest

from mmkd_jax import data
from mmkd_jax.core.model import linen, predict
from mmkd_jax.data.preprocess import Preprocessing, TokenizeWords, saved
from mmkd_jax.data.words import first_tokens
from mmkd_jax.errors import UserError
from mmkd_jax.models import Tagger, TextBag

TEXTS = ["I don't know", "Yes", "it's a don't-know, I say", ""]
PIECES = data.train_tokenizer([*TEXTS, *TEXTS], 40, 16, "pieces")
ENDS = data.train_tokenizer([*TEXTS, *TEXTS], 40, 16, "ends", split="spaces", suffix=2)


def rows(texts=TEXTS, **more):
    return data.from_columns({"text": np.array([t.encode() for t in texts]), **more}, "made-up")


def test_the_first_token_of_each_word():
    found = first_tokens(PIECES, TEXTS, 16, 5)
    assert found.tolist() == [[0, 1, 4, -1, -1], [0, -1, -1, -1, -1], [0, 3, 4, 10, 11], [-1] * 5]
    assert first_tokens(PIECES, TEXTS, 4, 5)[2].tolist() == [0, 3, -1, -1, -1]  # of four tokens


def test_words_between_spaces_are_one_token_each_and_suffixes_end_them():
    words = data.train_tokenizer(["Don't stop, don't", "stop, U.S. U.S."], 40, 8, split="spaces")
    assert words(["don't stop, stop. u.s."])["text.mask"].sum() == 4
    found = ENDS(["want", "t", "'t"])["ends.ids"][:, 0].tolist()
    assert found[0] == 1 != found[2]  # "nt" is unknown, "'t" the end of don't
    with pytest.raises(UserError, match="split='punctuation', suffix=2; expected split='spaces'"):
        data.train_tokenizer(TEXTS, 40, 8, suffix=2)


def test_a_model_reads_one_token_for_each_word(tmp_path):
    made = data.tokenize(rows(), {PIECES: 16, ENDS: 5}, words={PIECES: 5})
    columns = made.columns
    assert columns["pieces.words"].shape == (4, 5) and {k for k in made.spec if "words" in k} == {"pieces.words"}
    net = linen(Tagger({"pieces": TextBag(PIECES.vocabulary, 3), "ends": TextBag(ENDS.vocabulary, 2)}, 2, width=0))
    batch = {**columns, "example_id": np.arange(4)}
    variables = net.init(jax.random.key(0), batch)
    outputs = predict(net, variables, batch)
    np.testing.assert_array_equal(outputs["mask"].sum(1), [3, 1, 5, 0])
    hidden = np.asarray(outputs["hidden.pieces.0"])
    np.testing.assert_array_equal(outputs["embedding"][2, 3, :3], hidden[2, 10])
    assert (np.asarray(outputs["embedding"])[~np.asarray(outputs["mask"])] == 0).all()


def test_the_step_is_saved_with_a_student(tmp_path):
    steps = data.tokenize(rows(), {PIECES: 16}, words={PIECES: 5}).preprocess
    assert [type(x.steps[0]) for x in steps] == [TokenizeWords]
    saved.write(tmp_path / "steps", steps)
    (again,) = saved.read(tmp_path / "steps")
    for k, x in Preprocessing("text", (TokenizeWords(PIECES, 16, 5),))(TEXTS).items():
        np.testing.assert_array_equal(again(TEXTS)[k], x)
        assert again.row_spec()[k].shape == x.shape[1:]


@pytest.mark.parametrize(
    ("length", "count", "said"), [(16, 4, "row 2 has 5 words, of which 4"), (4, 5, "row 0 has 3 words, of which 2")]
)
def test_training_texts_whose_words_are_cut_are_refused(length, count, said):
    made = data.tokenize(rows(), {PIECES: length}, words={PIECES: count})
    with pytest.raises(UserError, match=f"{said} are within {count} words and {length} tokens"):
        made.columns  # noqa: B018


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ([["A"], ["A", "B"]], "row 1 has 1 words and the tags"),
        ([["A"], ["C"]], "tag 'C' in row 1; the tags are A, B"),
        ([["A"]], "2 texts, and tags of 1"),
    ],
)
def test_tags_of_other_words_are_refused(tags, said):
    texts = ["one", "two"]
    with pytest.raises(UserError, match=said):
        data.word_labels(texts, tags, ("A", "B"), 4)


def test_longer_texts_are_refused():
    with pytest.raises(UserError, match="row 0 has 3 words: increase length=2"):
        data.word_labels(["a b c"], [["A"] * 3], ("A", "B"), 2)
