"""On-disk cache of a frozen model's outputs: fixed-size records with a manifest that identifies their origin."""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import pathlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import files
from mmkd_jax.core import sharding
from mmkd_jax.core.model import ModelOutputs
from mmkd_jax.errors import UserError, choices
from mmkd_jax.losses.logits.topk import topk

_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class CacheSpec:
    """Outputs of a frozen model to cache, and their precision.

    Attributes:
        outputs: names of the outputs, such as ("logits", "embedding").
        dtype: storage dtype of floating-point outputs: float32, float16 or bfloat16; they are read as float32.
        top_k: keep only the k largest "logits", as a record (`losses.TopK`) with the exact log-sum-exp and the mass of
            the remaining classes; `kl`, `jsd` and `cross_entropy` accept it. None keeps all logits.
        temperature: temperature of the top-k record; the losses must use the same.

    Raises:
        UserError: outputs are empty, the dtype is unknown, or top_k is given without "logits".

    Example:
        >>> CacheSpec(("logits", "embedding"), dtype="float16")
        CacheSpec(outputs=('logits', 'embedding'), dtype='float16', top_k=None, temperature=1.0)
    """

    outputs: tuple[str, ...]
    dtype: str = "float32"
    top_k: int | None = None
    temperature: float | int = 1.0

    def __post_init__(self):
        if isinstance(self.outputs, str) or not self.outputs:
            raise UserError(f'cache: outputs are {self.outputs!r}; expected names, such as ("logits",)')
        if self.dtype not in ("float32", "float16", "bfloat16"):
            raise UserError(f"cache: dtype is {self.dtype!r}; expected float32, float16 or bfloat16")
        if self.top_k is not None and "logits" not in self.outputs:
            raise UserError(f"cache: top_k={self.top_k} keeps logits, but outputs are {choices(self.outputs)}")

    def columns(self, name: str, outputs: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.ShapeDtypeStruct]:
        """Return the batch columns `NAME.OUTPUT` of the cached outputs, from the shapes of a batch of outputs.

        Raises:
            UserError: the model lacks one of the outputs.
        """
        if unknown := set(self.outputs) - set(outputs):
            raise UserError(f"cache: model {name!r} has no output {choices(unknown)}; it has: {choices(outputs)}")
        try:
            shapes = jax.eval_shape(self.pack, {k: outputs[k] for k in self.outputs})
        except UserError as error:
            raise UserError(f"cache of {name!r}: {error}") from error
        return {f"{name}.{k}": s for k, s in shapes.items()}

    def pack(self, outputs: ModelOutputs) -> dict[str, jax.Array]:
        """Convert the outputs of a batch to their cached form."""
        packed = {}
        for name in self.outputs:
            x = outputs[name]
            if name == "logits" and self.top_k is not None:
                record = topk(x, self.top_k, temperature=self.temperature)
                small = jnp.uint16 if x.shape[-1] <= 2**16 else jnp.int32
                packed |= {"logits.values": record.values.astype(self.dtype), "logits.lse": record.lse}
                packed |= {"logits.indices": record.indices.astype(small), "logits.tail": record.tail}
            else:
                packed[name] = x.astype(self.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x
        return packed


def check_rows(
    spec: CacheSpec,
    name: str,
    outputs: Mapping[str, Any],
    run: Callable[[Any, Any], ModelOutputs],
    variables: Any,
    batch: Mapping[str, jax.ShapeDtypeStruct],
) -> None:
    """Raise for a cached output that does not have one row for each row of the batch, such as a CRF's transitions.

    Args:
        spec: the cached outputs.
        name: name of the model.
        outputs: shapes of its outputs on the batch.
        run: `(variables, batch) -> outputs` of the model.
        variables: shapes of its variables.
        batch: shapes of the batch.
    """
    rows = next(iter(batch.values())).shape[0]
    for output in spec.outputs:
        shape = getattr(outputs.get(output), "shape", (rows,))
        wrong = shape[:1] != (rows,)
        if shape[:2] == (rows, rows):  # rows, or a table that happens to have as many
            more = {k: jax.ShapeDtypeStruct((rows + 1, *x.shape[1:]), x.dtype) for k, x in batch.items()}
            wrong = jax.eval_shape(run, variables, more)[output].shape[0] == rows
        if wrong:
            raise UserError(
                f"cache of {name!r}: output {output!r} has shape {list(shape)}, not one row for each of the {rows} "
                "rows of a batch: leave it out, or omit cache"
            )


class Store:
    """Records on disk: for each output one file with a little-endian array [num_views, rows, …].

    Attributes:
        directory: directory of the files.
        manifest: origin of the records: teacher, data, augmentation, number of views. Its digest is in the name of the
            directory.
        columns: name -> shape and dtype of one row.
        num_views: number of augmented views of each row.
        rows: number of rows of the data set.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        manifest: Mapping[str, Any],
        columns: Mapping[str, jax.ShapeDtypeStruct],
        num_views: int,
        rows: int,
    ):
        self.directory, self.num_views, self.rows = pathlib.Path(directory), num_views, rows
        self.columns = dict(columns)
        records = {k: f"{s.dtype}{list(s.shape)}" for k, s in self.columns.items()}
        whole = {"format": _FORMAT, **manifest, "num_views": num_views, "rows": rows, "records": records}
        self.manifest: dict[str, Any] = json.loads(json.dumps(whole))

    @property
    def size(self) -> int:
        """Size on disk in bytes."""
        return self.num_views * self.rows * sum(self._width(s) for s in self.columns.values())

    def is_complete(self, log: files.Log = print) -> bool:
        """Return whether all records exist and are undamaged; a damaged directory is set aside, to be made again."""
        try:
            saved = files.read_json(self.directory / "manifest.json")
        except FileNotFoundError:
            return False
        except files.Damaged:
            wrong, sums = ["manifest.json"], None
        else:
            sums = saved.pop("checksums", None)
            wrong = [f"manifest.json: {line}" for line in files.changes(saved, self.manifest)]
            if sums is not None and not wrong:
                wrong = [self._file(k).name for k in self.columns if _checksum(self._file(k)) != sums[k]]
        if wrong:
            kept = files.set_aside(self.directory)
            log(f"the cache {self.directory} is damaged ({choices(wrong)}) and kept as {kept.name}: computing it again")
        return sums is not None and not wrong

    def arrays(self) -> dict[str, np.ndarray]:
        """Memory-map the records, [num_views, rows, …]; values are read from disk on access."""
        return {
            k: np.memmap(self._file(k), s.dtype, "r", shape=(self.num_views, self.rows, *s.shape))
            for k, s in self.columns.items()
        }

    def build(
        self,
        batches: Callable[[int, int], Iterator[tuple[np.ndarray, Mapping[str, np.ndarray]]]],
        total: int,
        check_interrupt: Callable[[], None] = lambda: None,
        on_metrics: Callable[[int], None] = lambda batch: None,
        log: files.Log = print,
    ) -> None:
        """Compute and write the missing records; interrupted calls can be resumed, with the same bytes as a result.

        Args:
            batches: `(first, step) -> iterator of (row numbers over all views, columns)` over every step-th batch from
                `first`; this splits the work among processes.
            total: total number of batches.
            check_interrupt: called after each batch, equally often in all processes; may raise.
            on_metrics: called with the number of finished batches.
            log: called with messages for the user.

        Raises:
            UserError: a value that the dtype cannot represent, a full disk, or no permission.
        """
        index, count = jax.process_index(), jax.process_count()
        progress = self.directory / f"progress-{index}-of-{count}.json"
        with files.reported(self.directory), contextlib.ExitStack() as stack:
            sharding.on_primary(self._allocate)
            out = {k: stack.enter_context(open(self._file(k), "r+b")) for k in self.columns}
            chunks = self._undamaged((files.recover_json(progress, log) or {}).get("chunks", []), log)
            done = min(sharding.process_allgather(chunks[-1]["batches"] if chunks else 0))
            chunks = [c for c in chunks if c["batches"] <= done]
            mine = batches(index + done * count, count)
            written: list[tuple[int, int]] = []  # rows since the last save, [first, last)
            sums = dict.fromkeys(self.columns, 0)

            def save(done):
                for file in out.values():
                    os.fsync(file.fileno())
                if written:
                    chunks.append({"batches": done, "rows": _joined(written), "checksums": dict(sums)})
                files.write_json(progress, {"chunks": chunks})  # never ahead of the records
                written.clear()
                sums.update(dict.fromkeys(sums, 0))

            while done * count < total:
                for rows, columns in itertools.islice(mine, 1):  # empty if only other processes have a batch left
                    written += [(int(rows[a]), int(rows[b - 1]) + 1) for a, b in _runs(rows)]
                    for name, x in columns.items():
                        sums[name] = zlib.crc32(self._write(out[name], name, rows, x), sums[name])
                done += 1
                on_metrics(done)
                if done % 64 == 0:
                    save(done)
                try:
                    check_interrupt()
                except BaseException:
                    save(done)
                    raise
            save(done)
            if len(self._undamaged(chunks, log)) < len(chunks):
                raise UserError(f"{self.directory} changed while it was computed: check the disk, and run it again")
            sharding.process_allgather(0)
            sharding.on_primary(self._complete)

    def _allocate(self) -> None:
        """Allocate all space up front, or fail."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for name, s in self.columns.items():
            if self._file(name).is_dir():
                files.set_aside(self._file(name))
            with open(self._file(name), "ab") as file:
                size = max(1, self.num_views * self.rows * self._width(s))
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                file.truncate(size)
        files.write_json(self.directory / "manifest.json", self.manifest)

    def _complete(self) -> None:
        final = {k: _checksum(self._file(k)) for k in self.columns}
        files.write_json(self.directory / "manifest.json", self.manifest | {"checksums": final})
        for file in self.directory.glob("progress-*.json"):
            file.unlink()

    def _undamaged(self, chunks: list[dict[str, Any]], log: files.Log) -> list[dict[str, Any]]:
        """Return the chunks of batches, from the first, whose records on disk are what was written."""
        for i, chunk in enumerate(chunks):
            for name, row in self.columns.items():
                total, width = 0, self._width(row)
                with open(self._file(name), "rb") as file:
                    for first, last in chunk["rows"]:
                        file.seek(first * width)
                        total = _checksum_of(file, (last - first) * width, total)
                if total != chunk["checksums"][name]:
                    start = chunks[i - 1]["batches"] if i else 0
                    log(f"{self._file(name)} is damaged: computing it again from batch {start}")
                    return chunks[:i]
        return chunks

    def _write(self, file, name, rows, x) -> bytes:
        """Write the rows of a batch, and return their bytes."""
        row = self.columns[name]
        width, floating = self._width(row), jnp.issubdtype(row.dtype, jnp.floating)
        with np.errstate(over="ignore"):
            data = np.ascontiguousarray(x.astype(row.dtype))
        # −inf is valid: log of an empty tail in a top-k record, or a removed class in logits
        if floating and np.isnan(data).any():
            raise UserError(
                f"cache: {name} is NaN at row {rows[np.argwhere(np.isnan(data))[0][0]]}: check the teacher and the data"
            )
        if floating and (np.isinf(data) & np.isfinite(x)).any():
            raise UserError(f"cache: {name} has values that {row.dtype} cannot hold: use dtype float32 or bfloat16")
        for first, last in _runs(rows):  # whole batches, except for padding at the end of a view
            file.seek(int(rows[first]) * width)
            file.write(data[first:last].tobytes())
            file.flush()
        return data.tobytes()

    def _file(self, name: str) -> pathlib.Path:
        return self.directory / f"{name}.bin"

    @staticmethod
    def _width(s) -> int:
        return math.prod(s.shape) * np.dtype(s.dtype).itemsize


def _runs(rows: np.ndarray) -> list[tuple[int, int]]:
    """Return [first, last) of each run of consecutive row numbers."""
    ends = np.flatnonzero(np.diff(rows) != 1) + 1
    marks = [0, *ends.tolist(), len(rows)]
    return list(itertools.pairwise(marks))


def _joined(runs: list[tuple[int, int]]) -> list[list[int]]:
    """Join [first, last) ranges that continue each other.

    Example:
        >>> _joined([(0, 4), (4, 8), (9, 12)])
        [[0, 8], [9, 12]]
    """
    joined: list[list[int]] = []
    for first, last in runs:
        if joined and joined[-1][1] == first:
            joined[-1][1] = last
        else:
            joined.append([first, last])
    return joined


def _checksum(path: pathlib.Path) -> int | None:
    """CRC-32 of a file; None if it is missing."""
    try:
        with open(path, "rb") as file:
            return _checksum_of(file, path.stat().st_size)
    except (FileNotFoundError, IsADirectoryError):
        return None


def _checksum_of(file: IO[bytes], size: int, total: int = 0) -> int:
    while size > 0 and (block := file.read(min(size, 1 << 24))):
        total, size = zlib.crc32(block, total), size - len(block)
    return total
