"""The page of situations is that of the tests."""

import ast

from tests.never_silent.page import HERE, KINDS, PAGE, page, situations


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == page(), "python -m tests.never_silent.page > docs/never-silent.md"


def test_every_kind_is_on_it():
    files = {p.stem.removeprefix("test_") for p in HERE.glob("test_*.py")} - {"page"}
    assert files == set(KINDS)
    for kind in KINDS:
        body = ast.parse((HERE / f"test_{kind}.py").read_text()).body
        tests = [f.name for f in body if isinstance(f, ast.FunctionDef) and f.name.startswith("test_")]
        coverage = [n for n in tests if n.endswith(("_is_covered", "_is_known", "_is_on_a_stage", "_keep_their_order"))]
        assert len(situations(HERE / f"test_{kind}.py")) == len(tests) - len(coverage), kind
