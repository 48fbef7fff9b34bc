"""The page docs/never-silent.md, from the tests: python -m tests.never_silent.page > docs/never-silent.md"""

import ast
import pathlib

HERE = pathlib.Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "never-silent.md"
KINDS = {
    "untrained": "Frozen models",
    "slips": "Configuration mistakes and reports",
    "what_is_read": "Labels and columns",
    "masked_is_absent": "Masked rows, and NaN in training",
    "not_finite_in_evaluation": "NaN in evaluation",
    "metrics": "Metrics over whole splits",
    "tasks": "Labels and heads of tasks",
    "retrieval": "Retrieval",
    "fusions": "Fusions of modalities",
    "narrowing": "Numbers that do not fit",
    "preprocessing": "Raw inputs and preprocessing steps",
    "own_data": "Own data, and a student in use",
    "nothing_there": "Nothing there",
    "runs_know_their_code": "Changed code, settings, data or teachers",
    "going_on": "More trainings, longer trainings, changed trainings",
    "run_folder": "The run folder and caches",
    "every_byte": "Damaged files",
    "command_line": "The command line, and where it runs",
}
HEAD = """# Errors and warnings

Anything that could silently change a result raises an error that names the value and the remedy, is logged, or is \
computed correctly. This page is generated from the tests in \
`tests/never_silent/`, each of which holds for every member of its kind: every loss, method, task, loader, figure and \
conversion.
"""


def situations(file: pathlib.Path) -> list[tuple[str, str]]:
    """Return (situation, what happens) of each test of a file whose docstring says both."""
    tests = [f for f in ast.parse(file.read_text()).body if isinstance(f, ast.FunctionDef)]
    said = [" ".join((ast.get_docstring(f) or "").split()).rstrip(".") for f in tests if f.name.startswith("test_")]
    return [(s.partition(" → ")[0], s.partition(" → ")[2]) for s in said if " → " in s]


def page() -> str:
    """Return the whole page."""
    text = [HEAD]
    for kind, title in KINDS.items():
        rows = [f"| {situation} | {outcome} |" for situation, outcome in situations(HERE / f"test_{kind}.py")]
        text.append("\n".join([f"## {title}\n", "| situation | what happens |", "| --- | --- |", *rows, ""]))
    return "\n".join(text)


if __name__ == "__main__":
    print(page(), end="")
