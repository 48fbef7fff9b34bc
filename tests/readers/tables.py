"""Tables of every format that are read, and of damages; each is a row of docs/readers.md."""

import functools
import io
import json
import pathlib
from collections.abc import Callable

import pyarrow
import pyarrow.parquet

from mmkd_jax.data.raw import table_file
from tests.readers.case import Case
from tests.readers.texts import deep


def written(data: bytes) -> Callable[[pathlib.Path], object]:
    return lambda path: path.write_bytes(data)


def read(path: pathlib.Path) -> list[list[object]]:
    """Return the cells of the columns a and b."""
    return list(table_file.read(path, ["a", "b"]).columns.values())


def lines(*rows: object) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def parquet(**columns: object) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def twice() -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays([pyarrow.array([1])] * 2, ["a", "a"]), file)
    return file.getvalue()


READ = [["1", None], ["x", "y"]]
Csv = functools.partial(Case, "CSV")
CSV = [
    Csv("plain", written(b"a,b\n1,x\n,y\n"), READ),
    Csv("byte order mark, Windows line ends, no last one", written(b"\xef\xbb\xbfa,b\r\n1,x\r\n,y"), READ),
    Csv("other columns, spaces in names, empty lines", written(b"c, a ,b\n,1,x\n\n,  ,y\n\n"), READ),
    Csv("quotes, commas and line breaks in a cell", written(b'a,b\n"1, ""2""\n3",x\n'), [['1, "2"\n3'], ["x"]]),
    *(
        Csv(variant, written(content), expected, "refused")
        for variant, content, expected in (
            ("Latin-1", "a,b\n1,x\ncafé,y\n".encode("latin-1"), "is not UTF-8 .byte 0xe9 in line 3."),
            ("UTF-16", "a,b\n1,x\n".encode("utf-16"), "is not UTF-8 .byte 0xff in line 1."),
            ("UTF-16 without a mark", "a,b\n1,x\n".encode("utf-16-le"), "has a NUL character in line 1"),
            ("too few cells in a row", b"a,b\n1,x\n2\n", r"row 1 .line 3. has 1 cells, but the first line has 2"),
            ("too many cells in a row", b'a,b\n"1\n2",x\n2,y,z\n', r"row 1 .line 4. has 3 cells"),
            ("a quote that is not closed", b'a,b\n"1,x\n2,y\n', "line 2 cannot be read .unexpected end of data"),
            ("a quote inside a quoted cell", b'a,b\n"1"2,x\n', "line 2 cannot be read"),
            ("a cell of 200,000 characters", b"a,b\n1," + b"x" * 200_000, "line 2 cannot be read .field larger"),
            ("a column twice", b"a,b,a\n1,x,2\n", "has two columns 'a': rename one"),
            ("a column missing", b"a,c\n1,x\n", "has no column 'b'; it has: a, c"),
            ("no names of columns", b"1,x\n2,y\n", "its first line seems to be a row: add a line with the names"),
            ("semicolons", b"a;b\n1;x\n", "its cells are not separated by commas"),
            ("no rows", b"a,b\n", "has no rows"),
            ("an empty file", b"", "is empty"),
            ("20,000 columns", b",".join(b"c%d" % i for i in range(20_000)), "has 20,000 columns; expected at most"),
        )
    ),
]
Json = functools.partial(Case, "JSON lines")
JSON = [
    Json("texts, numbers and null", written(lines({"a": 1, "b": "x"}, {"a": None, "b": 2.5})), [[1, None], ["x", 2.5]]),
    Json("absent keys and empty texts", written(lines({"a": "", "b": "x"}, {"b": "y"})), [[None, None], ["x", "y"]]),
    Json("lists", written(lines({"a": [1, 2], "b": ["x"]})), [[[1, 2]], [["x"]]]),
    Json("byte order mark, Windows line ends", written(b'\xef\xbb\xbf{"a": 1, "b": 2}\r\n\r\n'), [[1], [2]]),
    *(
        Json(variant, written(content), expected, "refused")
        for variant, content, expected in (
            ("an object in a cell", lines({"a": 1, "b": {}}), "row 0 .line 1.: 'b' is a dict; expected text"),
            ("an empty list", lines({"a": 1, "b": []}), "row 0 .line 1.: 'b' is a list; expected text"),
            ("a list of lists and numbers", lines({"a": 1, "b": [1, [2]]}), "'b' is a list; expected text"),
            ("a list of all rows", b'[{"a": 1, "b": 2}]', "row 0 .line 1. is a list; expected an object"),
            ("an object over several lines", b'{"a": 1,\n"b": 2}', "row 0 .line 1. is not valid JSON"),
            ("a key twice", b'{"a": 1, "b": 2, "a": 3}', "the key 'a' occurs twice"),
            ("NaN", b'{"a": NaN, "b": 2}', "NaN is not a number"),
            ("nested 10,000 deep", b'{"a": 1, "b": ' + deep(10_000) + b"}", "row 0 .line 1. is not valid JSON"),
            ("an integer of 5,000 digits", b'{"a": 1, "b": ' + b"1" * 5_000 + b"}", "is not valid JSON"),
            ("Latin-1", b'{"a": "\xe9", "b": 2}', "is not UTF-8 .byte 0xe9 in line 1."),
            ("a NUL character", b'{"a": "\\u0000", "b": 2}', "row 0 .line 1.: 'a' has a NUL character"),
            ("a column missing", lines({"a": 1}), "has no column 'b'; it has: a"),
            ("an empty file", b"", "has no rows"),
        )
    ),
]
Parquet = functools.partial(Case, "Parquet")
PARQUET = [
    Parquet(
        "texts, numbers, null, NaN", written(parquet(a=[1.5, float("nan")], b=["x", None])), [[1.5, None], ["x", None]]
    ),
    Parquet("lists", written(parquet(a=[[1, 2]], b=[["x"]])), [[[1, 2]], [["x"]]]),
    Parquet("categories", written(parquet(a=[1], b=pyarrow.array(["x"]).dictionary_encode())), [[1], ["x"]]),
    *(
        Parquet(variant, written(content), expected, "refused")
        for variant, content, expected in (
            ("bytes", parquet(a=[1], b=[b"x"]), "row 0: 'b' is a bytes; expected text"),
            ("structures", parquet(a=[1], b=[{"c": 1}]), "row 0: 'b' is a dict; expected text"),
            ("times", parquet(a=[1], b=pyarrow.array([0], pyarrow.timestamp("s"))), "row 0: 'b' is a datetime; exp"),
            ("a column twice", twice(), "has two columns 'a': rename one|has no column 'b'"),
            ("a column missing", parquet(a=[1]), "has no column 'b'; it has: a"),
            ("cut off", parquet(a=[1], b=[2])[:-9], "is not a readable Parquet file"),
            ("a CSV file", b"a,b\n1,x\n", "is not a readable Parquet file"),
            ("no rows", parquet(a=pyarrow.array([], "int32"), b=pyarrow.array([], "int32")), "has no rows"),
            ("an empty file", b"", "is not a readable Parquet file"),
        )
    ),
]
FILES = {"table.csv": CSV, "table.jsonl": JSON, "table.parquet": PARQUET}
