"""How fast a run is: rows a second, waiting for data, memory, share of the peak; never part of its results."""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from mmkd_jax.flops import PEAKS


class Waited:
    """An iterator that adds up how long its user waited.

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
    """Adds up steps and their seconds between two looks; compiling and evaluating are left out.

    Attributes:
        rows: of a batch.
        flops: `() -> operations of a step`, asked where the device's peak is known.
        source: what batches come from; a `Waited` tells how long they took.
    """

    def __init__(self, rows: int, flops: Callable[[], int], source: Any):
        self.rows, self.flops, self.source = rows, flops, source
        self._start()

    def _start(self):
        self.steps, self.seconds, self.waited = 0, 0.0, getattr(self.source, "seconds", 0.0)

    def add(self, steps: int, seconds: float) -> None:
        """Some steps took so long."""
        self.steps, self.seconds = self.steps + steps, self.seconds + seconds

    def take(self) -> dict[str, float]:
        """What was since the last look; nothing if no step was timed.

        Returns:
            "rows a second"; "waiting for data, %" of the time, where batches come from the host; "memory, MiB": the
            peak on a device, or of the process where devices do not tell; "MFU, %" of the peak for bf16, where that is
            known.
        """
        if not self.steps:
            self._start()
            return {}
        found = {"rows a second": self.steps * self.rows / self.seconds, "memory, MiB": memory() / 2**20}
        if isinstance(self.source, Waited):
            found["waiting for data, %"] = 100 * min(1.0, (self.source.seconds - self.waited) / self.seconds)
        if peak := PEAKS.get(jax.devices()[0].device_kind):
            found["MFU, %"] = 100 * self.steps * self.flops() / self.seconds / (peak * jax.device_count())
        self._start()
        return found


def memory() -> int:
    """Bytes at the peak: the largest of this process's devices, or the process itself where devices do not tell."""
    told = [d.memory_stats() or {} for d in jax.local_devices()]
    if peaks := [t["peak_bytes_in_use"] for t in told if "peak_bytes_in_use" in t]:
        return max(peaks)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
