"""Checkpoints to resume from. The only module that uses Orbax."""

import contextlib
import hashlib
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp

from mmkd_jax import files
from mmkd_jax.core import sharding
from mmkd_jax.variables_file import check_same_leaves

Damaged = list[tuple[int, str]]


@jax.jit
def checksums(tree: Any) -> dict[str, jax.Array]:
    """Compute one uint32 checksum per leaf, independent of sharding and process count (wrapping sums ignore order).

    Orbax does not detect corrupted bytes; these checksums do.
    """

    def one(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x = jax.random.key_data(x)
        if x.dtype == jnp.bool_:
            x = x.astype(jnp.uint8)
        word = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}[x.dtype.itemsize]
        u, w = jax.lax.bitcast_convert_type(x, word).astype(jnp.uint32), jnp.uint32(0x9E3779B9)
        for axis in range(u.ndim):  # weights depend on the index, so that swapped values are detected
            i = jax.lax.broadcasted_iota(jnp.uint32, u.shape, axis)
            w = (w ^ (i * jnp.uint32(0x85EBCA6B) + jnp.uint32(axis))) * jnp.uint32(0xC2B2AE35)
            w = w ^ (w >> jnp.uint32(15))
        return jnp.sum((u ^ w) * (w | jnp.uint32(1)), dtype=jnp.uint32)

    return {jax.tree_util.keystr(p): one(x) for p, x in jax.tree.leaves_with_path(tree)}


class Checkpoints:
    """Checkpoints of one run: saved asynchronously and atomically, verified by checksum when restored.

    Attributes:
        directory: the checkpoint directory.
        last: number of newest checkpoints to keep.
        best: number of checkpoints with the highest score to keep as well.
        every: also keep checkpoints whose step is a multiple of this; None disables it.
    """

    def __init__(self, directory: str | os.PathLike, last: int = 2, best: int = 0, every: int | None = None):
        self.directory, self.last, self.best, self.every = pathlib.Path(directory).absolute(), last, best, every
        with files.reported(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            self._set_aside = self._without_scores()
            self._open()

    def _without_scores(self) -> Damaged:
        """Set aside checkpoints whose score is damaged, with which Orbax does not open the directory."""
        damaged: Damaged = []
        for path in sorted(self.directory.glob("*/metrics/metrics")):
            step = path.parent.parent.name
            try:
                json.loads(files.read(path))["score"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                damaged += [(int(step), f"its score: {_reason(error)}")] * step.isdigit()
        if any(sharding.process_allgather(len(damaged))):  # all have listed them, so that all do the same
            sharding.on_primary(lambda: self._rename(damaged))
        return damaged

    def _rename(self, damaged: Damaged) -> None:
        for step, _ in damaged:  # renamed, not deleted; Orbax ignores the new name
            files.set_aside(self.directory / str(step))

    def _open(self):
        training = ocp.training
        keep = training.preservation_policies
        policies: list[Any] = [keep.LatestN(self.last)]
        if self.best:
            score: Any = lambda metrics: metrics["score"]  # noqa: E731
            policies.append(keep.BestN(get_metric_fn=score, n=self.best, keep_checkpoints_without_metrics=False))
        if self.every:
            policies.append(keep.EveryNSteps(self.every))
        self._orbax = training.Checkpointer(
            str(self.directory),
            cleanup_tmp_directories=True,
            # pyrefly: ignore[bad-argument-type]  Orbax declares a different protocol
            preservation_policy=keep.AnyPreservationPolicy(policies),
        )

    def save(self, step: int, tree: Any, meta: dict[str, Any], score: float | None = None) -> None:
        """Save asynchronously; the next `save`, `wait` or `close` reports a failure.

        Args:
            step: checkpoint number.
            tree: pytree of arrays; typed PRNG keys are allowed.
            meta: JSON values saved with it.
            score: ranks the best checkpoints; None excludes this one from the ranking.
        """
        sums = {k: int(v) for k, v in jax.device_get(checksums(tree)).items()}
        # as text, with a hash: Orbax does not detect a changed digit either
        text = json.dumps({"meta": meta, "sums": sums, "leaves": _leaves(tree)})
        about: dict[str, Any] = {"text": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
        with self._failures(step):
            self._orbax.wait()
            self._orbax.save_async(
                step, tree, force=True, custom_metadata=about, metrics=None if score is None else {"score": score}
            )

    def wait(self) -> None:
        """Block until the last save is on disk."""
        with self._failures(None):
            self._orbax.wait()

    def close(self) -> None:
        """Wait for the last save and release the directory."""
        with self._failures(None):
            self._orbax.close()

    def restore(self, like: Any) -> tuple[int, Any, dict[str, Any], Damaged] | None:
        """Restore the newest undamaged checkpoint.

        Args:
            like: pytree of arrays, or of ShapeDtypeStruct with shardings, with the saved structure.

        Returns:
            (step, tree, meta, damaged), where `damaged` lists (step, reason) of the checkpoints that were skipped and
            renamed to `N.damaged`; None if the directory is empty.

        Raises:
            UserError: the checkpoint has a different tree.
            files.Damaged: every checkpoint is damaged; all of them are renamed, and the next call returns None.
        """
        damaged, found = list(self._set_aside), None
        for info in reversed(list(self._orbax.checkpoints)):
            try:
                about = _verified(self._orbax.metadata(info.step).custom_metadata)
            except Exception as error:  # Orbax has no common exception class for corruption
                damaged.append((info.step, _reason(error)))
                continue
            # Orbax ignores a changed dtype, and does not name the leaf of a changed shape
            check_same_leaves(self.directory / str(info.step), about["leaves"], _leaves(like))
            try:
                tree = self._orbax.load(info.step, like)
                sums = jax.device_get(checksums(tree))
                if wrong := [k for k, v in sums.items() if int(v) != about["sums"].get(k)]:
                    raise ValueError(f"checksum mismatch in {', '.join(wrong[:3])}")
            except Exception as error:
                damaged.append((info.step, _reason(error)))
                continue
            found = (info.step, tree, about["meta"], damaged)
            break
        if damaged:
            self._orbax.close()
            sharding.on_primary(lambda: self._rename(damaged[len(self._set_aside) :]))
            self._open()
        if damaged and found is None:
            what = "; ".join(f"{s}: {reason}" for s, reason in damaged)
            raise files.Damaged(f"every checkpoint in {self.directory} is damaged ({what}) and kept as N.damaged")
        return found

    @contextlib.contextmanager
    def _failures(self, step):
        where = self.directory if step is None else self.directory / str(step)
        with files.reported(where, "saving a checkpoint to"):
            yield


def newest_meta(directory: str | os.PathLike) -> dict[str, Any] | None:
    """Read the JSON values of the newest checkpoint whose metadata are undamaged, without opening it; None if none."""
    about = _newest(directory)
    return about and about["meta"]


def check_shapes(directory: str | os.PathLike, state: Any) -> None:
    """Raise if the newest checkpoint has a state of other shapes, without opening it; `restore` would raise later.

    Args:
        directory: directory of the checkpoints.
        state: the expected state, or its shapes.

    Raises:
        UserError: names the leaves that differ.
    """
    if (about := _newest(directory)) is not None:
        expected = _leaves({"state": state})
        check_same_leaves(directory, {k: v for k, v in about["leaves"].items() if k.startswith("['state']")}, expected)


def _newest(directory: str | os.PathLike) -> dict[str, Any] | None:
    steps = sorted((int(p.name) for p in pathlib.Path(directory).glob("*") if p.name.isdigit()), reverse=True)
    for step in steps:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # `restore` reports what is damaged
            text = files.read(pathlib.Path(directory) / str(step) / "_CHECKPOINT_METADATA")
            return _verified(json.loads(text)["custom_metadata"])
    return None


def _verified(about: Any) -> dict[str, Any]:
    """Return what `Checkpoints.save` wrote beside a tree."""
    if not about or not {"text", "sha256"} <= set(about):
        raise ValueError("its metadata is missing")
    if hashlib.sha256(about["text"].encode()).hexdigest() != about["sha256"]:
        raise ValueError("its metadata has another SHA-256 than recorded")
    return json.loads(about["text"])


def _leaves(tree) -> dict[str, str]:
    return {jax.tree_util.keystr(p): f"{x.dtype}{list(x.shape)}" for p, x in jax.tree.leaves_with_path(tree)}


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:  # Orbax wraps the original error
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"
