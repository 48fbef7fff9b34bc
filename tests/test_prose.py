"""Docstrings, help, errors and pages read as a native engineer would write them: none of these turns of phrase."""

import ast
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parents[1]
# pages that commands write; their prose is in the code that writes them
GENERATED = {"losses.md", "golden.md", "checks.md", "parity.md", "what-others-compute.md"}

PATTERNS = {
    r"\b(is|are|was|were|be) (told|said)\b": "is said, is told",
    r"\bsay whose\b|\bsays? (of|what|whose|whether)\b": "say whose, says of",
    r"\blook(s|ed|ing)? (at|up|through)\b|\btwo looks\b|\beach look\b": "look at, for an evaluation or a read",
    r"\b[Ww]hatever\b|\b[Ww]hoever\b": "whatever, whoever",
    r"\b(as|where|what) (they|it) (are|is) there\b|\b(that|which|frames?|words?) (is|are) there\b": "is there",
    r"\b[Tt]here (is|are) no(ne| such)\b|\bwhere (there|it) is (one|none)\b": "there is none",
    r"\bstands? (in|beside|for|under|at|by)\b": "stands in",
    r"\bno [a-z]+ that\b|\bno subject of\b|\bof no [a-z]+\b": "no X that",
    r"\b[Bb]esides\b(?! the)": "besides",
    r"\b(of its own|of their own|of one's own)\b": "of its own",
    r"\b(who|whom) (has|have|gives?|wants?|sees?|asks?)\b|\bfor whoever\b": "who wants",
    r"\b[Ww]hat (it|they|an?|the|its|this|that|those|these|s?he|you|we|one|each)( [a-z'`]+){0,3} "
    r"(gives?|gave|says?|said|makes?|made|takes?|took|needs?|wants?|did|asks?|holds?)\b": "what it gives",
    r"\b[Ww]hat (that|those|these|s?he|one|each)( [a-z'`]+){0,3} does\b": "what that does",
    r"\b[Aa]ll that\b|\bthose that\b(?= [a-z]+\.)": "all that",
    r"\bforetell|\bforetold\b": "foretell",
    r"\barms?\b": "arm",
    r"\bupdates are looked\b|\bheed(s|ed)?\b": "heed",
    r"\bnobody\b|\bnothing (is|was) (read|lost|made)\b": "nobody",
    r"\bgo(es)? on (with|from|where)\b|\bgoing on\b": "go on",
}


def docstrings(tree: ast.AST):
    """Docstrings of modules, and of public classes and functions; strings under fields; texts of errors and help."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            text = ast.get_docstring(node, clean=False)
            if text:
                first = node.body[0]
                yield first.lineno, re.sub(r"(?m)^\s*(>>>|\.\.\.) .*$", "", text)
            for before, after in zip(node.body, node.body[1:], strict=False):
                field = isinstance(before, (ast.AnnAssign, ast.Assign)) and isinstance(after, ast.Expr)
                if field and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
                    yield after.lineno, after.value.value
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            for part in ast.walk(node.exc):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.lineno, part.value


def prose(path: pathlib.Path):
    """(line, text) of everything that a reader of a file is shown."""
    text = path.read_text()
    if path.suffix == ".py":
        yield from docstrings(ast.parse(text))
    elif path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        yield from ((i, "".join(c["source"])) for i, c in enumerate(cells) if c["cell_type"] == "markdown")
    else:
        text = re.sub(r"(?ms)^```.*?^```", lambda m: "\n" * m[0].count("\n"), text)
        yield from enumerate(text.split("\n"), 1)


def faults(paths) -> list[str]:
    """file:line: turn of phrase: the text around it."""
    found = []
    for path in paths:
        for line, text in prose(path):
            for pattern, name in PATTERNS.items():
                for m in re.finditer(pattern, text):
                    at = line + text[: m.start()].count("\n")
                    around = " ".join(text[max(0, m.start() - 30) : m.end() + 30].split())
                    found.append(f"{path}:{at}: {name}: …{around}…")
    return found


def everything():
    """Every file whose prose a user reads."""
    yield from sorted((ROOT / "mmkd_jax").rglob("*.py"))
    yield from sorted((ROOT / "experiments").rglob("*.py"))
    yield from (p for p in sorted((ROOT / "docs").glob("*.md")) if p.name not in GENERATED)
    yield from sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
    yield from sorted((ROOT / "docs").glob("*.py"))
    yield ROOT / "README.md"


def test_no_turn_of_phrase_reads_as_translated():
    assert faults(everything()) == []


def test_the_patterns_find_what_they_are_for():
    for line in (
        "All that an objective may look at.",
        "of the step that nobody read",
        "which arm helped",
        "what those took",
    ):
        assert any(re.search(p, line) for p in PATTERNS)


if __name__ == "__main__":
    paths = [pathlib.Path(a) for a in sys.argv[1:]]
    files = [f for p in paths for f in (sorted(p.rglob("*.py")) + sorted(p.rglob("*.md")) if p.is_dir() else [p])]
    print("\n".join(faults(files)))
