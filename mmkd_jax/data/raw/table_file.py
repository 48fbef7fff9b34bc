"""Tables that someone else wrote: CSV, TSV, JSON lines and Parquet as columns of cells, or refused by row."""

import csv
import dataclasses
import io
import json
import math
import os
import pathlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

from mmkd_jax import foreign_files
from mmkd_jax.errors import UserError, choices, shown
from mmkd_jax.looks_like import not_downloaded

_MOST_BYTES = 2**29
"""Largest table that is read, in bytes; of Parquet, of the columns that are read, before compression."""
_MOST_COLUMNS = 10_000


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of a table.

    Attributes:
        path: path of the file.
        columns: name -> cells, one per row: strings, numbers, lists of them, or None for an empty cell.
        lines: number of the first line of each row; empty if the file has no lines.
    """

    path: pathlib.Path
    columns: dict[str, list[Any]]
    lines: Sequence[int] = ()

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())))

    def row(self, i: int) -> str:
        """Return the name of a row in messages; rows count from 0, as `example_id` does."""
        line = f" (line {self.lines[i]})" if self.lines else ""
        return f"{shown(str(self.path), 300)}, row {i}{line}"


def read(path: str | os.PathLike, wanted: Collection[str]) -> Table:
    r"""Read some columns of a table: .csv, .tsv, .jsonl or .ndjson, .parquet.

    The first line of a CSV file has the names of the columns. Cells of CSV files are strings; a cell that is empty or
    white space is None, likewise null, NaN, "" and absent keys in the other formats. A byte order mark is removed.

    Args:
        path: path of the table.
        wanted: names of the columns; others are not kept.

    Raises:
        UserError: another type of file; it is too large, is damaged, or is not UTF-8; a column is missing or occurs
            twice; a row has too many or too few cells, or a cell of another type; there are no rows. The message has
            the row.

    Example:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "pets.csv"
        >>> _ = path.write_text("photo,species\r\na.png,dog\r\n,cat\r\n")
        >>> read(path, ["photo", "species"]).columns
        {'photo': ['a.png', None], 'species': ['dog', 'cat']}
    """
    path = pathlib.Path(path)
    readers: dict[str, Callable[[pathlib.Path, Collection[str]], Table]] = {
        ".csv": _separated,
        ".tsv": _separated,
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".parquet": _parquet,
    }
    if path.suffix.lower() not in readers:
        raise UserError(f"{path} has an unknown type of table; expected {choices(readers)}: convert it")
    table = readers[path.suffix.lower()](path, wanted)
    if not table.size:
        raise UserError(f"{path} has no rows")
    return table


def _separated(path, wanted):
    tabs = path.suffix.lower() == ".tsv"
    rows = csv.reader(io.StringIO(_text(path), newline=""), delimiter="\t" if tabs else ",", strict=True)
    names, places, cells, lines, line = None, {}, {}, [], 1
    try:
        for row in rows:
            first, line = line, rows.line_num + 1
            if not row:
                continue  # an empty line
            if names is None:
                names = [x.strip() for x in row]
                _check_names(path, names, wanted)
                cells = {name: [] for name in wanted}
                places = {name: names.index(name) for name in wanted}
                continue
            if len(row) != len(names):
                raise UserError(
                    f"{path}, row {len(lines)} (line {first}) has {len(row)} cells, but the first line has "
                    f'{len(names)}: write a cell that contains a separator, a line break or a quote as "…"'
                )
            lines.append(first)
            for name, k in places.items():
                cells[name].append(row[k] if row[k].strip() else None)
    except csv.Error as error:
        raise UserError(f"{path}, line {line} cannot be read ({shown(str(error))}): check its quotes") from None
    if names is None:
        raise UserError(f"{path} is empty")
    return Table(path, cells, lines)


def _json_lines(path, wanted):
    rows, lines, names = [], [], {}
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, row {len(rows)} (line {number})"
        if len(line) > foreign_files.MOST_JSON:
            raise UserError(f"{where} has {len(line):,} characters; expected at most {foreign_files.MOST_JSON:,}")
        try:
            row = json.loads(line, object_pairs_hook=_once, parse_constant=_number_only)
        except (ValueError, RecursionError, MemoryError) as error:
            raise UserError(f"{where} is not valid JSON ({shown(str(error))}): write one object a line") from None
        if not isinstance(row, dict):
            raise UserError(f"{where} is a {type(row).__name__}; expected an object")
        names |= dict.fromkeys(row)
        rows.append([row.get(name) for name in wanted])
        lines.append(number)
    if not rows:
        raise UserError(f"{path} has no rows")
    _check_names(path, list(names), wanted)
    table = Table(path, {name: [row[k] for row in rows] for k, name in enumerate(wanted)}, lines)
    return _typed(table)


def _parquet(path, wanted):
    import pyarrow
    import pyarrow.parquet

    size = foreign_files.size_of(path)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _check_names(path, file.schema_arrow.names, wanted)
            about = file.metadata
            found = [
                about.row_group(g).column(c) for g in range(about.num_row_groups) for c in range(about.num_columns)
            ]
            total = sum(x.total_uncompressed_size for x in found if x.path_in_schema.split(".")[0] in wanted)
            if max(size if not found else 0, total, 8 * about.num_rows) > _MOST_BYTES:
                raise UserError(f"{path} needs {max(total, 8 * about.num_rows):,} bytes; {_split_it()}")
            read = file.read(columns=list(wanted))
            cells = {name: read.column(name).to_pylist() for name in wanted}
    except (pyarrow.ArrowException, OSError, MemoryError) as error:
        reason = shown((str(error) or "no memory").splitlines()[0])
        raise UserError(f"{path} is not a readable Parquet file ({reason}): write it again") from None
    return _typed(Table(path, cells))


def _text(path):
    size = foreign_files.size_of(path)
    if size > _MOST_BYTES:
        raise UserError(f"{path} has {size:,} bytes; {_split_it()}")
    data = foreign_files.read_bytes(path, _MOST_BYTES)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = data[: error.start].count(b"\n") + 1, data[error.start]
        what = not_downloaded(data) or f"is not UTF-8 (byte {byte:#04x} in line {line}): save it as UTF-8"
        raise UserError(f"{path} {what}") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UserError(f"{path} has a NUL character in line {line}, as UTF-16 has: save it as UTF-8")
    return text


def _check_names(path, names, wanted):
    if len(names) > _MOST_COLUMNS:
        raise UserError(f"{path} has {len(names):,} columns; expected at most {_MOST_COLUMNS:,}")
    if twice := [name for name in names if name in wanted and names.count(name) > 1]:
        raise UserError(f"{path} has two columns {twice[0]!r}: rename one")
    missing = [name for name in wanted if name not in names]
    if not missing:
        return
    hint = ""
    if len(names) == 1 and any(x in names[0] for x in ";\t"):
        hint = ": its cells are not separated by commas: save it with commas, or a table with tabs as .tsv"
    elif path.suffix.lower() in (".csv", ".tsv") and any(_is_value(path, name) for name in names):
        hint = ": its first line seems to be a row: add a line with the names of the columns"
    shown_names = shown(", ".join(shown(name, 40) for name in names), 160)
    raise UserError(f"{path} has no column {missing[0]!r}; it has: {shown_names}{hint}")


def _is_value(path, name):
    """Return whether a name in a first line is rather a cell: a number, or an existing file."""
    try:
        float(name)
    except ValueError:
        try:
            return bool(name) and (path.parent / name).is_file()
        except OSError:  # too long for a path
            return False
    return True


def _typed(table):
    """Return a table whose cells are strings, finite numbers, lists of them or None; others are refused."""
    for name, cells in table.columns.items():
        for i, x in enumerate(cells):
            if x is None or (isinstance(x, str) and not x.strip()) or (isinstance(x, float) and math.isnan(x)):
                cells[i] = None
                continue
            known = isinstance(x, str | int | float) or (isinstance(x, list) and _plain(x))
            if not known:
                kind = type(x).__name__
                raise UserError(f"{table.row(i)}: {name!r} is a {kind}; expected text, a number, or a list of them")
            if isinstance(x, str) and "\0" in x:
                raise UserError(f"{table.row(i)}: {name!r} has a NUL character: remove it")
    return table


def _plain(values):
    """Return whether a list, at most four deep, has only texts and numbers."""
    for _ in range(4):
        if not any(isinstance(x, list) for x in values):
            return bool(values) and all(isinstance(x, str | int | float) for x in values)
        if not all(isinstance(x, list) for x in values):
            return False
        values = [y for x in values for y in x]
    return False


def _once(pairs):
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} occurs twice")
    return row


def _number_only(text):
    raise ValueError(f"{text} is not a number")


def _split_it():
    return f"expected at most {_MOST_BYTES:,}: leave out columns, or split the table"
