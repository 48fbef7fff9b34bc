"""What a second start of the main experiment costs before its first step."""

import os
import pathlib
import subprocess
import sys

import pytest

FILE = pathlib.Path(__file__).parents[2] / "experiments" / "av_digits.py"


def programs(home, out) -> tuple[int, int]:
    """How many programs a short run asks for, and how many of them were not in the compilation cache."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment |= {"HOME": str(home), "JAX_LOG_COMPILES": "1"}
    command = [sys.executable, str(FILE), "--seeds", "1", "--steps", "40", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    asked = done.stderr.count("Finished XLA compilation")
    return asked, asked - done.stderr.count("Persistent compilation cache hit")


@pytest.mark.slow
def test_a_second_start_compiles_nothing_and_asks_for_at_most_forty_programs(tmp_path):
    _, missed = programs(tmp_path, tmp_path / "first")
    assert missed >= 20  # the first start does compile, and the log says so
    asked, missed = programs(tmp_path, tmp_path / "second")
    assert missed == 0
    assert 20 <= asked <= 40
