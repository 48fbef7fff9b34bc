"""Throughput of a run: rows per second, time waiting for data, memory and MFU; never part of its results."""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from mmkd_jax.training.operations import PEAKS


class Waited:
    """Iterator that measures the total time spent waiting for its items.

    Example:
        >>> source = Waited(iter([1, 2]))
        >>> next(source), next(source), source.seconds >= 0
        (1, 2, True)
    """

    def __init__(self, source: Iterator[Any]):
        self.source, self.seconds = source, 0.0

    def __iter__(self):
        return self

    def __next__(self):
        began = time.perf_counter()
        try:
            return next(self.source)
        finally:
            self.seconds += time.perf_counter() - began


class Stopwatch:
    """Throughput between two evaluations; compilation and evaluation time is excluded.

    Attributes:
        rows: number of rows of a batch.
        flops: `() -> int`, operations of a step; called only if the peak of the device is known.
        source: source of the batches; a `Waited` also measures the time waiting for data.
    """

    def __init__(self, rows: int, flops: Callable[[], int], source: Any):
        self.rows, self.flops, self.source = rows, flops, source
        self._start()

    def _start(self):
        self.steps, self.seconds, self.waited = 0, 0.0, getattr(self.source, "seconds", 0.0)

    def add(self, steps: int, seconds: float) -> None:
        """Record the duration of some steps."""
        self.steps, self.seconds = self.steps + steps, self.seconds + seconds

    def elapsed(self) -> dict[str, float]:
        """Return the throughput since the previous call, and reset; empty if no step was timed.

        Returns:
            "rows a second"; "waiting for data, %" of the time, if batches come from the host; "memory, MiB": peak of a
            device, or of the process if devices do not report it; "MFU, %" of the bf16 peak, if that is known.
        """
        if not self.steps:
            self._start()
            return {}
        found = {"rows a second": self.steps * self.rows / self.seconds, "memory, MiB": peak_memory() / 2**20}
        if isinstance(self.source, Waited):
            found["waiting for data, %"] = 100 * min(1.0, (self.source.seconds - self.waited) / self.seconds)
        if peak := PEAKS.get(jax.devices()[0].device_kind):
            found["MFU, %"] = 100 * self.steps * self.flops() / self.seconds / (peak * jax.device_count())
        self._start()
        return found


def peak_memory() -> int:
    """Return peak memory in bytes: maximum over local devices, or of the process if devices do not report it."""
    stats = [d.memory_stats() or {} for d in jax.local_devices()]
    if peaks := [s["peak_bytes_in_use"] for s in stats if "peak_bytes_in_use" in s]:
        return max(peaks)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
