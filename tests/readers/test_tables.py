"""Tables: each cell is read as written, or the table is refused with one line that names the row."""

import pytest

from mmkd_jax.data.raw import table_file
from mmkd_jax.errors import UserError
from tests.readers import tables

CASES = [(name, case) for name, cases in tables.FILES.items() for case in cases]


@pytest.mark.parametrize(("name", "case"), CASES, ids=[case.name for _, case in CASES])
def test_a_table(name, case, tmp_path):
    path = tmp_path / name
    case.make(path)
    if isinstance(case.expected, list):
        assert tables.read(path) == case.expected
        return
    with pytest.raises(UserError, match=case.expected) as error:
        tables.read(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_other_files_are_refused(tmp_path):
    for name, expected in (("a.xlsx", "unknown type of table; expected .csv, .json"), ("a.csv", "there is no file")):
        with pytest.raises(UserError, match=expected):
            table_file.read(tmp_path / name, ["a"])
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        table_file.read(tmp_path / "folder.csv", ["a"])


def test_a_table_may_not_be_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(table_file, "_MOST_BYTES", 20)
    for name, data in (("a.csv", b"a,b\n" + b"1,x\n" * 9), ("a.parquet", tables.parquet(a=[1] * 9, b=[2] * 9))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match="expected at most 20: leave out columns, or split the table"):
            tables.read(tmp_path / name)
