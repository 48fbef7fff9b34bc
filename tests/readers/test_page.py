"""docs/readers.md is up to date with the cases."""

import ast
import pathlib

from mmkd_jax import files
from tests.never_silent.test_every_byte import READS
from tests.readers import page, pictures, settings, sounds, tables, texts, videos


def test_the_page_is_up_to_date():
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "python -m tests.readers.page > docs/readers.md"


def test_cases_are_shown_as_what_they_are():
    groups = [pictures.CASES, videos.CASES, sounds.CASES, texts.VOCABULARIES, texts.SETTINGS, texts.TOKENIZERS]
    for cases in (*groups, settings.CASES, *tables.FILES.values()):
        assert [c.name for c in cases if not page.shown_is_right(c)] == []
        assert len({c.name for c in cases}) == len(cases)


# module that reads files -> its section of the page, or why nobody else's file reaches it
READERS = {
    "data/picture_file.py": "## Images",
    "data/animation.py": "## Videos",
    "data/film.py": "## Videos",
    "data/raw/table_file.py": "## Tables",
    "data/raw/contents.py": "hashes of files that others read",
    "data/raw/prepared.py": "copies that it wrote, with SHA-256 in the record",
    "data/raw/preparation.py": "sources of this library, which are hashed",
    "data/sounds.py": "## Recordings",
    "data/tokenizer.py": "## Vocabularies and tokenizers",
    "data/chat.py": "## Vocabularies and tokenizers",
    "data/processor_file.py": "## Vocabularies and tokenizers",
    "pretrained/folder.py": "## Weights",
    "pretrained/pickled.py": "## Weights",
    "data/commands.py": "files that it has just written",
    "data/dataset.py": "prepared data, with SHA-256 in the record",
    "data/preprocess/saved.py": "steps of a student, with SHA-256",
    "data/sources.py": "packages with a pinned SHA-256",
    "data/datasets/emoji.py": "packages with a pinned SHA-256",
    "data/datasets/easy_vqa.py": "packages with a pinned SHA-256",
}
DOORS = READS | {"size_of"}


def test_every_reader_has_its_rows():
    """A module of data or pretrained that opens a file is listed, and its section exists."""
    root, found = pathlib.Path(files.__file__).parent, set()
    for path in [*root.glob("data/**/*.py"), *root.glob("pretrained/**/*.py")]:
        calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        if {f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in calls} & DOORS:
            found.add(path.relative_to(root).as_posix())
    assert found == set(READERS)
    text = page.page()
    assert all(section in text for section in READERS.values() if section.startswith("## "))
