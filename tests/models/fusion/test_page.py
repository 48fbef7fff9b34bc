"""The page of the docs has every fusion, and its contract is that of the tests."""

from mmkd_jax.models import fusion
from tests.models.fusion.page import PAGE, page


def test_the_contract_on_the_page_is_up_to_date():
    assert PAGE.read_text() == page(), "python -m tests.models.fusion.page"


def test_every_fusion_is_on_the_page():
    names = [n for n, x in vars(fusion).items() if isinstance(x, type)]
    assert [n for n in names if f"| `{n}(" not in PAGE.read_text()] == []
