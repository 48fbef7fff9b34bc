"""Partners: a second row beside each row, for augmentations that mix two."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mmkd_jax.data.dataset import Dataset
from mmkd_jax.data.order import mix
from mmkd_jax.errors import UserError, choices


@dataclasses.dataclass(frozen=True)
class Partners:
    """Which columns of a second row stand in training batches as `partner.NAME`.

    Formula: the partner of a row is row hash(seed, example_id, slot) mod n of the same data set

    It belongs to the row and its slot, never to the batch, so that a mixture is the same in any batch order, size and
    sharding. Now and then a row is its own partner.

    Attributes:
        names: columns, or modalities for all that belongs to one: "text" is `text.ids`, `text.mask`, `present.text`;
            "label" brings `labelled` along. `example_id` always comes.
        seed: of the draw; not the run's.

    Example:
        >>> Partners(("label",)).rows(np.array([5, 6, 7]), np.array([0, 0, 0]), 10).shape
        (3,)
    """

    names: tuple[str, ...]
    seed: int = 0

    def columns(self, dataset: Dataset) -> tuple[str, ...]:
        """The columns to fetch.

        Raises:
            UserError: a name that is neither a column nor a modality.
        """
        found = ["example_id"]
        for name in self.names:
            own = [k for k in dataset.spec if k == name or k.startswith(name + ".")]
            if not own:
                raise UserError(f"partners: the data set has no column {name!r}; it has: {choices(dataset.spec)}")
            found += own + [k for k in (f"present.{name}", "labelled" if name == "label" else "") if k in dataset.spec]
        return tuple(dict.fromkeys(found))

    def rows(
        self, example_id: Int[Array | np.ndarray, " b"], slot: Int[Array | np.ndarray, " b"], n: int
    ) -> Int[Array | np.ndarray, " b"]:
        """Row numbers of the partners; NumPy in, NumPy out, the same numbers in JAX."""
        xp = np if isinstance(example_id, np.ndarray) else jnp
        x = mix(np.array([self.seed & 0xFFFFFFFF], np.uint32))
        for part in (example_id, slot):
            x = mix(mix(x) + part.astype(xp.uint32))
        return (x % np.array([n], np.uint32)).astype(xp.int32)
