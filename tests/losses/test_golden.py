"""Values and gradients of published implementations, where the folder with the recordings is there."""

import pytest

from tests.losses.golden import ROWS, pages
from tests.losses.golden.recorded import FOLDER, cases, chosen, compare, row_of

if not cases():
    pytest.skip(f"no recorded values under {FOLDER}", allow_module_level=True)
ROW = {id_: chosen(ROWS, id_) for id_ in cases()}


def test_every_case_has_a_row_and_every_row_a_sentence():
    assert [id_ for id_, row in ROW.items() if row is None] == []
    assert all(row.why.endswith(".") for row in ROWS)
    assert len({row.cases for row in ROWS}) == len(ROWS)


def tolerance(id_):
    return 1e-9 if cases()[id_]["dtype"] == "float64" and not row_of(ROWS, id_).single else 1e-6


@pytest.mark.parametrize("id_", [i for i, r in ROW.items() if r and r.verdict in ("equal", "composed")])
def test_value_and_gradient_are_equal(id_):
    assert max(compare(cases()[id_], row_of(ROWS, id_))) <= tolerance(id_)


@pytest.mark.parametrize("id_", [i for i, r in ROW.items() if r and r.verdict == "differs" and r.ours])
def test_what_differs_on_purpose_does(id_):
    assert max(compare(cases()[id_], row_of(ROWS, id_))) > tolerance(id_)


def test_every_case_has_a_place_on_the_pages():
    assert {c["loss"] for c in cases().values()} <= {name for names in pages.METHODS.values() for name in names}


@pytest.mark.full
@pytest.mark.parametrize("page", ["golden", "others"])
def test_the_pages_of_the_docs_are_up_to_date(page):
    file = {"golden": "golden.md", "others": "what-others-compute.md"}[page]
    assert (pages.DOCS / file).read_text() == getattr(pages, page)(), "run python -m tests.losses.golden.pages"
