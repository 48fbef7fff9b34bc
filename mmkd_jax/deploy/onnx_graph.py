"""An ONNX graph in the making: tensors, constants, and shapes that depend on the number of rows."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mmkd_jax.errors import UserError

OPSET, IR = 18, 9
Dims = tuple[Any, ...]
"""Sizes of an array; that of the batch is symbolic."""


class Unsupported(UserError):
    """An operator, or one of its options, that ONNX lacks."""


class Tensor(NamedTuple):
    """A value of the graph: a constant, or a named tensor that is computed.

    Attributes:
        value: the constant, or the name of the tensor.
        shape: its sizes; 1 instead of the size in the program where it is to be repeated.
    """

    value: np.ndarray | str
    shape: Dims

    @property
    def constant(self) -> np.ndarray | None:
        """The constant; None for a tensor that is computed."""
        return self.value if isinstance(self.value, np.ndarray) else None


def carried(dtype: Any) -> np.dtype:
    """Return the dtype that represents another one within the graph; the runtime has kernels for these four.

    Floats of 16 bits are computed in float32, and integers of 8 and 16 bits in int32.

    Example:
        >>> carried(jnp.bfloat16), carried(np.uint8), carried(bool)
        (dtype('float32'), dtype('int32'), dtype('bool'))
    """
    if jnp.issubdtype(dtype, np.floating):
        return np.dtype(np.float32)
    if jnp.issubdtype(dtype, np.integer):
        return np.dtype(np.int64 if np.dtype(dtype).itemsize == 8 or np.dtype(dtype) == np.uint32 else np.int32)
    if np.dtype(dtype) == np.bool_:
        return np.dtype(np.bool_)
    raise Unsupported(f"ONNX has no {dtype} here")


class Graph:
    """Nodes, constants, inputs and outputs of an ONNX graph.

    Attributes:
        rows: symbol of the number of rows.
        names: name of a constant by the id of its array, such as the path of a variable.
    """

    def __init__(self, rows: Any, names: Mapping[int, str]):
        self.rows, self.names = rows, dict(names)
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self._count, self._row_count = 0, ""

    def fresh(self, kind: str) -> str:
        """Return a new name."""
        self._count += 1
        return f"{kind.lower()}_{self._count}"

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Return the name of a constant."""
        x = np.asarray(value, dtype)
        name = self.names.get(id(value)) or self.fresh("constant")
        self.constants[name] = x
        return name

    def node(self, kind: str, *inputs: str, outputs: int = 1, name: str = "", **attributes: Any) -> Any:
        """Add a node, and return the name of its output, or the names of several."""
        from onnx import helper

        names = [name or self.fresh(kind) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def cast(self, name: str, dtype: Any) -> str:
        """Return a tensor in another dtype."""
        from onnx import helper

        return self.node("Cast", name, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def name(self, tensor: Tensor) -> str:
        """Return the name of a tensor in its carried dtype; a constant becomes one of the graph."""
        if isinstance(tensor.value, str):
            return tensor.value
        kind = carried(tensor.value.dtype)
        return self.constant(tensor.value if tensor.value.dtype == kind else tensor.value.astype(kind))

    def full(self, tensor: Tensor, shape: Dims) -> str:
        """Return the name of a tensor of exactly these sizes."""
        if tensor.shape == shape:
            return self.name(tensor)
        return self.node("Expand", self.name(tensor), self.sizes(shape))

    def sizes(self, shape: Sequence[Any], inferred: bool = False) -> str:
        """Return the name of a vector of sizes.

        Args:
            shape: the sizes.
            inferred: write a single symbolic size as -1, which Reshape computes.
        """
        symbolic = [i for i, n in enumerate(shape) if not isinstance(n, int | np.integer)]
        if not symbolic or (inferred and len(symbolic) == 1):
            return self.constant([-1 if i in symbolic else int(n) for i, n in enumerate(shape)], np.int64)
        pieces = [self.size(n) if i in symbolic else self.constant([int(n)], np.int64) for i, n in enumerate(shape)]
        return pieces[0] if len(pieces) == 1 else self.node("Concat", *pieces, axis=0)

    def size(self, n: Any) -> str:
        """Return the name of a vector of one size that depends on the number of rows: k · rows + c."""
        factor = n // self.rows
        offset = n - factor * self.rows
        if not isinstance(factor, int) or not isinstance(offset, int):
            raise Unsupported(f"the model has an axis of {n} entries; ONNX export knows multiples of the rows")
        if not self._row_count:
            first = self.inputs[0].name
            self._row_count = self.node("Shape", first, start=0, end=1)
        name = self._row_count if factor == 1 else self.node("Mul", self._row_count, self.constant([factor], np.int64))
        return self.node("Add", name, self.constant([offset], np.int64)) if offset else name

    def reshape(self, tensor: Tensor, shape: Dims) -> Tensor:
        """Return a tensor of another shape with as many entries."""
        if tensor.shape == shape:
            return tensor
        fixed = all(isinstance(n, int) for n in shape)
        if tensor.constant is not None and fixed:
            return Tensor(tensor.constant.reshape(shape), shape)
        return Tensor(self.node("Reshape", self.name(tensor), self.sizes(shape, inferred=True)), shape)

    def transpose(self, tensor: Tensor, order: Sequence[int]) -> Tensor:
        """Return a tensor with its axes in another order."""
        if list(order) == sorted(order):
            return tensor
        shape = tuple(tensor.shape[i] for i in order)
        if tensor.constant is not None:
            return Tensor(np.ascontiguousarray(tensor.constant.transpose(order)), shape)
        return Tensor(self.node("Transpose", self.name(tensor), perm=[int(i) for i in order]), shape)

    def describe(self, name: str, dtype: Any, shape: Dims) -> Any:
        """Return the declaration of an input or output; a symbolic size is the text "b"."""
        from onnx import helper

        sizes = [int(n) if isinstance(n, int | np.integer) else "b" for n in shape]
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), sizes)

    def model(self, name: str, version: str) -> Any:
        """Return the ONNX model."""
        from onnx import helper, numpy_helper

        used = {i for node in self.nodes for i in node.input}
        constants = [numpy_helper.from_array(x, n) for n, x in self.constants.items() if n in used]
        graph = helper.make_graph(self.nodes, name, self.inputs, self.outputs, constants)
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(
            graph, opset_imports=opset, ir_version=IR, producer_name="mmkd_jax", producer_version=version
        )
