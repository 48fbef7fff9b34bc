"""docs/readers.md is what the cases say."""

from tests.readers import page, pictures, settings, sounds, texts


def test_the_page_is_up_to_date():
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "python -m tests.readers.page > docs/readers.md"


def test_cases_are_shown_as_what_they_are():
    cases = [*pictures.CASES, *sounds.CASES, *texts.VOCABULARIES, *texts.SETTINGS, *texts.TOKENIZERS, *settings.CASES]
    assert [c.name for c in cases if not page.shown_is_right(c)] == []
    assert len({c.name for c in cases}) == len(cases) - len(
        {c.name for c in sounds.CASES} & {c.name for c in pictures.CASES}
    )
