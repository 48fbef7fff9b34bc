"""Memory banks of an objective compared with the data set."""

import jax

from mmkd_jax.core.sharding import is_bank
from mmkd_jax.data.in_memory import InMemory
from mmkd_jax.errors import UserError
from mmkd_jax.training.training import Training


def check_banks(training: Training, read: bool = True) -> None:
    """Raise if an `example_id` of the training data exceeds the size of a memory bank.

    Args:
        training: the training.
        read: use the example ids of data in memory; False uses the number of rows.

    Raises:
        UserError: a bank is too small; names its term and the size that it needs.
    """
    objective_state = training.abstract()[0].objective_state
    banks = [(p, len(x)) for p, x in jax.tree.leaves_with_path(objective_state) if is_bank(p, x)]
    if not banks:
        return
    known, dataset = read and isinstance(training.data, InMemory), training.data.dataset
    largest = int(dataset.columns["example_id"].max()) if known else dataset.size - 1  # streamed data is not read
    for path, rows in banks:
        if largest >= rows:
            name = jax.tree_util.keystr(path, simple=True, separator=".").partition(".bank")[0]
            reach = f"goes to {largest}" + ("" if known else f" (the data set has {dataset.size} rows)")
            raise UserError(
                f"term {name!r}: its bank has {rows} rows, but example_id of the training data {reach}: "
                f"give it size={largest + 1}"
            )
