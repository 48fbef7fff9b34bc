"""One device, a warm compile cache, strict modes where a test asks for them."""

import gc
import os
import pathlib
import resource
import sys

# Most of the time goes to compiling: without LLVM's optimizations it is half. Set XLA_FLAGS to test what users run.
# (Without XLA's fusion emitters, too, it is a quarter, but then it computes wrong sums: test_schemes notices.)
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
import pytest

LARGE = 2_500 * 2**20  # bytes of a worker

cache = os.environ.get("MMKD_TEST_CACHE") or pathlib.Path.home() / ".cache" / "mmkd_jax" / "tests"
jax.config.update("jax_compilation_cache_dir", str(cache))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """`--dist loadfile`, but the two files that share compiled programs of the losses share a worker."""
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return file.replace("losses/test_extremes.py", "losses/test_contract.py")

    return Together(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """Forget compiled programs between files once a worker has grown: those that come again are in the disk's cache."""
    yield
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1]) if sys.platform == "linux" else 0
    if pages * resource.getpagesize() > LARGE:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def strict():
    """No silent promotion of dtypes or ranks."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
