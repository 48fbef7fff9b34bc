"""Child processes that import a large package first: their time to read begins afterwards."""

import pytest

from mmkd_jax import child_process
from mmkd_jax.child_process import Limits
from mmkd_jax.errors import UserError

SCRIPT = """
import sys, time
time.sleep({before})
print(flush=True)
data = sys.stdin.buffer.read()
time.sleep({after})
print(data.decode() * 2)
"""


def run(folder, before, after, limits):
    (folder / "script.py").write_text(SCRIPT.format(before=before, after=after))
    return child_process.run(folder / "script.py", b"ab" * 2**17, "the file", limits, loads="numpy").split()


def test_a_slow_import_is_not_the_fault_of_the_file(tmp_path):
    assert run(tmp_path, 4.0, 0.0, Limits(seconds=3.0)) == [b"ab" * 2**18]
    with pytest.raises(UserError, match="the file takes longer than 0.5 s to read: do not use it"):
        run(tmp_path, 0.0, 30.0, Limits(seconds=0.5))
    with pytest.raises(UserError, match=r"importing numpy takes longer than 0.5 s here: .*limits=.*\(loading=…\)"):
        run(tmp_path, 30.0, 0.0, Limits(seconds=30.0, loading=0.5))


def test_a_script_that_ends_before_it_reads(tmp_path):
    (tmp_path / "script.py").write_text("raise SystemExit('no package numpy')")
    with pytest.raises(UserError, match=r"the file is damaged \(no package numpy\)"):
        child_process.run(tmp_path / "script.py", b"ab" * 2**17, "the file", loads="numpy")
