"""docs/readers.md says what Pillow and transformers do with the same files."""

import json

from tests.readers import references


def test_the_recorded_outcomes_are_those_of_these_versions():
    """Without soundfile, which is not one of the test dependencies."""
    recorded = json.loads(references.FILE.read_text(encoding="utf-8"))
    for kind, readers in references.READERS.items():
        for name in set(readers) - {"soundfile"}:
            assert references.measure(kind, name) == recorded[kind][name]
