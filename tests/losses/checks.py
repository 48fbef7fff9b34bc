"""The page of the docs that says which check of the contract each loss passed.

`python -m tests.losses.checks` runs all of tests/losses, slow ones included, and writes it.
"""

import pathlib
import sys
from collections import defaultdict

import pytest

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs/checks.md"


class Passed:
    """A plugin of pytest: (check, loss) -> how many rows passed.

    The rows are imported late: the checker of types wants to see our package come in.
    """

    def __init__(self):
        self.count = defaultdict(int)

    def pytest_runtest_logreport(self, report):
        if report.when != "call" or not report.passed or "[" not in report.nodeid:
            return
        from tests.losses.cases import CASES

        check, _, row = report.nodeid.split("::")[-1].removesuffix("]").partition("[")
        # some checks have a parameter of their own before the row's name
        loss = next((CASES[r].loss.__name__ for r in (row, row.partition("-")[2]) if r in CASES), None)
        if loss:
            self.count[check, loss] += 1


def page(count) -> str:
    """The table, a column for each check."""
    from tests.losses.cases import CASES

    checks = list(dict.fromkeys(check for check, _ in count))
    rows = list(dict.fromkeys(c.loss.__name__ for c in CASES.values()))
    total = {c: sum(count.get((c, r), 0) for r in rows) for c in checks}
    lines = [
        "# Checks that each loss passed",
        "",
        f"{len(rows)} losses, {len(CASES)} rows of test data (variants have rows of their own), "
        f"{sum(total.values())} checks passed. A figure is the number of rows; a check that does not apply, such as a "
        "class at −inf for a loss of features, is empty. Losses that couple rows run on eight virtual devices, too: "
        "`pytest tests/sharded/test_losses.py`. `python -m tests.losses.checks` makes this page.",
        "",
        *(f"{i}. {c.removeprefix('test_').replace('_', ' ')}: {total[c]}" for i, c in enumerate(checks, 1)),
        "",
        f"| loss | {' | '.join(str(i + 1) for i in range(len(checks)))} |",
        f"| --- | {' | '.join(['---:'] * len(checks))} |",
        *(f"| `{r}` | {' | '.join(str(count.get((c, r), '')) for c in checks)} |" for r in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    passed = Passed()
    if code := pytest.main(["-q", "-m", "", str(pathlib.Path(__file__).parent)], plugins=[passed]):
        sys.exit(code)  # the page tells of what passed, so nothing may have failed
    PAGE.write_text(page(passed.count))
