"""Partner rows: a second row for each row, for mixing augmentations (mixup, CutMix)."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mmkd_jax.data._order import check_seed, mix
from mmkd_jax.data.dataset import Dataset
from mmkd_jax.errors import UserError, choices


@dataclasses.dataclass(frozen=True)
class Partners:
    """Columns of a partner row, added to training batches as `partner.NAME`.

    Formula: the partner of a row is row hash(seed, example_id, view_index) mod n of the same data set

    The partner depends on the row and its view index only, so mixtures are the same for any batch order, batch size
    and sharding. A row is occasionally its own partner.

    Attributes:
        names: columns, or modalities for all columns of a modality: "text" is `text.ids`, `text.mask`, `present.text`;
            "label" includes `labelled`. `example_id` is always included.
        seed: seed of the draw, independent of the run's seed.

    Example:
        >>> Partners(("label",)).rows(np.array([5, 6, 7]), np.array([0, 0, 0]), 10).shape
        (3,)
    """

    names: tuple[str, ...]
    seed: int = 0

    def __post_init__(self):
        check_seed(self.seed)

    def columns(self, dataset: Dataset) -> tuple[str, ...]:
        """Return the columns to fetch.

        Raises:
            UserError: a name is neither a column nor a modality.
        """
        columns = ["example_id"]
        for name in self.names:
            matches = [k for k in dataset.spec if k == name or k.startswith(name + ".")]
            if not matches:
                raise UserError(f"partners: the data set has no column {name!r}; available: {choices(dataset.spec)}")
            columns += matches + [
                k for k in (f"present.{name}", "labelled" if name == "label" else "") if k in dataset.spec
            ]
        return tuple(dict.fromkeys(columns))

    def rows(
        self, example_id: Int[Array | np.ndarray, " b"], view_index: Int[Array | np.ndarray, " b"], n: int
    ) -> Int[Array | np.ndarray, " b"]:
        """Return the row indices of the partners; NumPy in, NumPy out, identical in JAX."""
        xp = np if isinstance(example_id, np.ndarray) else jnp
        x = mix(np.array([self.seed & 0xFFFFFFFF], np.uint32))
        for part in (example_id, view_index):
            x = mix(mix(x) + part.astype(xp.uint32))
        return (x % np.array([n], np.uint32)).astype(xp.int32)
