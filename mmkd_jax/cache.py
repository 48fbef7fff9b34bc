"""A frozen model's outputs, computed once and kept on disk: records of fixed size, and a manifest that says of what."""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import pathlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import files, parallel
from mmkd_jax.errors import UserError, choices
from mmkd_jax.losses.checked import BadInput
from mmkd_jax.losses.logits.topk import topk
from mmkd_jax.run_folder import changes
from mmkd_jax.views import Outputs

_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Kept:
    """Which outputs of a frozen model are kept, and how exactly.

    Attributes:
        outputs: names, such as ("logits", "embedding").
        dtype: of outputs that are floating, float32, float16 or bfloat16; they are read as float32.
        top_k: keep only so many of the largest "logits", as a record (`losses.TopK`) with its exact log-sum-exp and the
            mass of the rest; `kl`, `jsd` and `cross_entropy` take it. None keeps all.
        temperature: T at which such a record is compared; the losses must have the same.

    Raises:
        UserError: no output, an unknown dtype, or a record without logits.

    Example:
        >>> Kept(("logits", "embedding"), dtype="float16")
        Kept(outputs=('logits', 'embedding'), dtype='float16', top_k=None, temperature=1.0)
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
        """What stands in the batch under `NAME.output`, from the shapes of a batch of outputs.

        Raises:
            UserError: the model has no such output.
        """
        if unknown := set(self.outputs) - set(outputs):
            raise UserError(f"cache: model {name!r} has no output {choices(unknown)}; it has: {choices(outputs)}")
        try:
            shapes = jax.eval_shape(self.pack, {k: outputs[k] for k in self.outputs})
        except BadInput as error:
            raise UserError(f"cache of {name!r}: {error}") from error
        return {f"{name}.{k}": s for k, s in shapes.items()}

    def pack(self, outputs: Outputs) -> dict[str, jax.Array]:
        """Outputs of a batch -> what is kept of them."""
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


class Store:
    """Records on disk: of every output an array [slots, rows, …], little-endian, in a file of its own.

    Attributes:
        directory: where they lie.
        manifest: what they are of: teacher, data, augmentation, slots. Other contents are refused by name.
        columns: name -> shape and dtype of one row.
        slots: augmented versions of each row.
        rows: of the data set.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        manifest: Mapping[str, Any],
        columns: Mapping[str, jax.ShapeDtypeStruct],
        slots: int,
        rows: int,
    ):
        self.directory, self.slots, self.rows = pathlib.Path(directory), slots, rows
        self.columns = dict(columns)
        records = {k: f"{s.dtype}{list(s.shape)}" for k, s in self.columns.items()}
        whole = {"format": _FORMAT, **manifest, "slots": slots, "rows": rows, "records": records}
        self.manifest: dict[str, Any] = json.loads(json.dumps(whole))

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.slots * self.rows * sum(self._width(s) for s in self.columns.values())

    def checked(self) -> bool:
        """Whether all records are there and whole.

        Raises:
            UserError: the folder holds records of something else, or damaged ones.
        """
        path = self.directory / "manifest.json"
        if not path.is_file():
            return False
        saved = json.loads(path.read_text())
        sums = saved.pop("checksums", None)
        if unlike := changes(saved, self.manifest):
            raise UserError(
                f"the cache {self.directory} is of something else ({'; '.join(unlike)}): take that back, use another "
                "folder (--cache), or remove this one"
            )
        if sums is None:
            return False
        if wrong := [k for k in self.columns if _checksum(self._file(k)) != sums[k]]:
            raise UserError(f"the cache {self.directory} is damaged ({choices(wrong)}): remove it, it is made again")
        return True

    def arrays(self) -> dict[str, np.ndarray]:
        """The records, [slots, rows, …], mapped from disk: read where they are looked at."""
        return {
            k: np.memmap(self._file(k), s.dtype, "r", shape=(self.slots, self.rows, *s.shape))
            for k, s in self.columns.items()
        }

    def build(
        self,
        batches: Callable[[int, int], Iterator[tuple[np.ndarray, Mapping[str, np.ndarray]]]],
        total: int,
        heed: Callable[[], None] = lambda: None,
        note: Callable[[int], None] = lambda batch: None,
    ) -> None:
        """Compute and write what is not there yet; killed and called again, it goes on and ends with the same bytes.

        Args:
            batches: `(first, step) -> (row numbers over all slots, columns)`, of every step-th batch from the first;
                several processes share the work in this way.
            total: number of all batches.
            heed: called after each batch, by all processes as often; may raise.
            note: called with the number of batches that are done.

        Raises:
            UserError: a value that does not fit the dtype, a full disk, no permission.
        """
        index, count = jax.process_index(), jax.process_count()
        progress = self.directory / f"progress-{index}-of-{count}.json"
        with files.reported(self.directory), contextlib.ExitStack() as stack:
            if parallel.leads():
                self.directory.mkdir(parents=True, exist_ok=True)
                for name, s in self.columns.items():
                    with open(self._file(name), "ab") as file:  # the space is taken at once, or refused
                        size = max(1, self.slots * self.rows * self._width(s))
                        if hasattr(os, "posix_fallocate"):
                            os.posix_fallocate(file.fileno(), 0, size)
                        file.truncate(size)
                files.write(self.directory / "manifest.json", json.dumps(self.manifest, indent=1) + "\n")
            parallel.of_all(0)
            out = {k: stack.enter_context(open(self._file(k), "r+b")) for k in self.columns}
            done = min(parallel.of_all(json.loads(progress.read_text())["batches"] if progress.is_file() else 0))
            mine = batches(index + done * count, count)

            def save(done):
                for file in out.values():
                    os.fsync(file.fileno())
                files.write(progress, json.dumps({"batches": done}) + "\n")  # never ahead of the records

            while done * count < total:
                for rows, columns in itertools.islice(mine, 1):  # none, where the others have one more
                    for name, x in columns.items():
                        self._write(out[name], name, rows, x)
                done += 1
                note(done)
                if done % 64 == 0:
                    save(done)
                try:
                    heed()
                except BaseException:
                    save(done)
                    raise
            save(done)
            parallel.of_all(0)
            if parallel.leads():
                sums = {k: _checksum(self._file(k)) for k in self.columns}
                files.write(
                    self.directory / "manifest.json", json.dumps(self.manifest | {"checksums": sums}, indent=1) + "\n"
                )
                for file in self.directory.glob("progress-*.json"):
                    file.unlink()
            parallel.of_all(0)

    def _write(self, file, name, rows, x):
        kept = self.columns[name]
        width, floating = self._width(kept), jnp.issubdtype(kept.dtype, jnp.floating)
        with np.errstate(over="ignore"):
            data = np.ascontiguousarray(x.astype(kept.dtype))
        # −inf is the log of nothing in a record's tail, and a removed class in logits
        if floating and np.isnan(data).any():
            raise UserError(
                f"cache: {name} is not a number at row {rows[np.argwhere(np.isnan(data))[0][0]]}: mend that"
            )
        if floating and (np.isinf(data) & np.isfinite(x)).any():
            raise UserError(f"cache: {name} has values that {kept.dtype} cannot hold: keep it as float32, or bfloat16")
        for first, last in _runs(rows):  # whole batches, but for the padding at a slot's end
            os.pwrite(file.fileno(), data[first:last].tobytes(), int(rows[first]) * width)

    def _file(self, name: str) -> pathlib.Path:
        return self.directory / f"{name}.bin"

    @staticmethod
    def _width(s) -> int:
        return math.prod(s.shape) * np.dtype(s.dtype).itemsize


def readable(size: int) -> str:
    """Bytes, for a person.

    Example:
        >>> readable(3 * 2**20)
        '3.0 MiB'
    """
    return f"{size / 2**20:.1f} MiB" if size < 2**30 else f"{size / 2**30:.1f} GiB"


def _runs(rows: np.ndarray) -> list[tuple[int, int]]:
    """Where row numbers go up by one: [first, last) of each such run."""
    ends = np.flatnonzero(np.diff(rows) != 1) + 1
    marks = [0, *ends.tolist(), len(rows)]
    return list(zip(marks[:-1], marks[1:], strict=True))


def _checksum(path: pathlib.Path) -> int:
    total = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 24):
            total = zlib.crc32(block, total)
    return total
