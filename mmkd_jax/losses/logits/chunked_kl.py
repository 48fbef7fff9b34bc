"""KL divergence over large vocabularies, without materializing the full logits."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import summed
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.numeric import at_least_float32, like
from mmkd_jax.typing import Count, Positive
from mmkd_jax.validation import validated

PIECES = 8  # per chunk: the elementwise steps between the matrix products need several temporaries


@validated
def chunked_kl(
    student: Float[Array, "*n d"],
    teacher: Float[Array, "*n e"],
    head: Float[Array, "d c"],
    teacher_head: Float[Array, "e c"],
    *,
    bias: Float[Array, " c"] | None = None,
    teacher_bias: Float[Array, " c"] | None = None,
    temperature: Positive = 1.0,
    chunk: Count = 2**23,
    where: Bool[Array, "..."] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """KD through output heads: `kl` from features and head weights, with logits computed chunk by chunk.

    Formula: (1 / n) Σ_i T² KL(softmax((t_i U + a) / T) ‖ softmax((s_i W + b) / T)), summed over the n valid rows

    The student's gradients are computed along with the value, chunk by chunk, so that logits are neither stored nor
    recomputed. The head's gradient sums over rows, so the mean over the rows of `where` is taken here. In a term, the
    head is another output of the model, `tap("head.kernel", kernel)`: `term(losses.chunked_kl,
    student="student.hidden.text.2", head="student.head.kernel", teacher="teacher.hidden.text.6",
    teacher_head="teacher.head.kernel", where="text.mask")`. The model may still output its logits: unused outputs are
    not computed. Microbatches are rejected, because they concatenate outputs along rows and a head has none.

    At 50,000 classes, 2048 rows and 256 features in float32, XLA reports 100 MiB of temporaries; the unchunked loss
    needs 2051 MiB (`python -m benchmarks.chunked_kl`).

    Args:
        student: student features s, [..., d].
        teacher: teacher features t, [..., e].
        head: student head W, [d, c]. bfloat16 features and heads are multiplied in bfloat16 and accumulated in float32.
        teacher_head: teacher head U, [e, c].
        bias: student bias b, [c]; a class at −inf in both biases is ignored.
        teacher_bias: teacher bias a, [c].
        temperature: T > 0, a scalar or one value per row.
        chunk: number of logits per model that exist at a time, about 12 bytes each; at least 8 rows.
        where: mask of valid rows, [...] or its leading axes.
        axis_name: device axis inside `shard_map` or `pmap`; None otherwise.

    Returns:
        The mean over the valid rows of all devices; 0 if no row is valid. Gradients flow to the student's features,
        head and bias, and to the temperature, but not to the teacher's. Reverse mode only (no `jvp`); `shard_map` needs
        check_vma=False, as in the rest of the library.

    Compares: features through their heads, as logits
    Extra: none; head weights as model outputs
    Source: Hsu et al., Liger Kernel: Efficient Triton Kernels for LLM Training, 2024, https://arxiv.org/abs/2410.10989

    Example:
        >>> x, w = jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]])
        >>> float(chunked_kl(x, x, w, w))
        0.0
    """
    mask = jnp.ones(student.shape[:-1], bool)
    if where is not None:
        mask = mask & where.reshape(where.shape + (1,) * (mask.ndim - where.ndim))
    wide = at_least_float32(student[:0], teacher[:0], head[:0], teacher_head[:0])[0].dtype
    t = jnp.where(mask, jnp.broadcast_to(like(temperature, jnp.zeros(mask.shape, wide)), mask.shape), 1)
    student_model = _model(student, head, bias, mask, wide)
    teacher_model = _model(teacher, teacher_head, teacher_bias, mask, wide)
    rows_per_chunk = max(1, chunk // head.shape[1])  # rows of any vocabulary-wide array
    total = summed(_total(rows_per_chunk, student_model, teacher_model, t.reshape(-1), mask.reshape(-1)), axis_name)
    return total / jnp.maximum(summed(jnp.sum(mask), axis_name), 1).astype(wide)


class _Model(NamedTuple):
    features: Array
    head: Array
    bias: Array | None

    def logits(self, rows, dtype):
        z = _product(rows, self.head, dtype)
        return z if self.bias is None else z + self.bias.reshape((1,) * (z.ndim - 1) + (-1,))


def _model(features, head, bias, mask, wide):
    """Flatten the rows and zero the invalid ones, so that these affect neither the value nor the gradient."""
    features = jnp.where(mask[..., None], features, 0).reshape(mask.size, features.shape[-1])
    with jax.numpy_dtype_promotion("standard"):
        narrow = jnp.result_type(features, head)
    return _Model(features.astype(narrow), head.astype(narrow), None if bias is None else bias.astype(wide))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _total(rows_per_chunk, student, teacher, t, mask):
    """Sum `kl` over the valid rows; the teacher gets no gradient."""

    def add(total, chunk):
        student_rows, teacher_rows, t, mask = chunk
        z, teacher_z = student.logits(student_rows, t.dtype), teacher.logits(teacher_rows, t.dtype)
        return total + _of_rows(z, teacher_z, t, mask), None

    return lax.scan(add, jnp.zeros((), t.dtype), _chunks(rows_per_chunk, student, teacher, t, mask))[0]


def _forward(rows_per_chunk, student, teacher, t, mask):
    """Compute the value and its gradients; the backward pass only scales them."""

    def add(carry, chunk):
        total, to_head, to_bias = carry
        (student_rows, teacher_rows, t, mask), columns = chunk
        z, teacher_z = student.logits(student_rows, t.dtype), teacher.logits(teacher_rows, t.dtype)
        value, slope, to_t = _in_place(z, teacher_z, t, mask)
        to_bias = None if student.bias is None else to_bias + jnp.sum(slope, (0, 1))
        slope = slope.astype(student.head.dtype)
        to_head = _add_product(to_head, columns, slope.reshape(-1, slope.shape[-1]), rows_per_chunk)
        return (total + value, to_head, to_bias), (_product(slope, student.head.T, t.dtype), to_t)

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, t.dtype), (student.head, student.bias))
    chunks = _chunks(rows_per_chunk, student, teacher, t, mask)
    # transposed here, because XLA on CPU rejects transposed bfloat16 operands
    columns = jnp.swapaxes(chunks[0].reshape(len(chunks[0]), -1, len(student.head)), 1, 2)
    (total, to_head, to_bias), of_rows = lax.scan(add, (jnp.zeros((), t.dtype), *zeros), (chunks, columns))
    to_rows, to_t = (jnp.moveaxis(x, 0, 2).reshape(-1, *x.shape[3:])[: len(t)] for x in of_rows)
    return total, (_Model(to_rows, to_head, to_bias), to_t, student.head[:0])


def _backward(rows_per_chunk, residuals, factor):
    del rows_per_chunk
    slopes, to_t, low = residuals
    to_rows, to_head = ((factor * g).astype(low.dtype) for g in (slopes.features, slopes.head))
    to_bias = None if slopes.bias is None else factor * slopes.bias
    return _Model(to_rows, to_head, to_bias), None, factor * to_t, None


_total.defvjp(_forward, _backward)


def _of_rows(student, teacher, t, mask):
    return jnp.sum(jnp.where(mask, kl(student, teacher, temperature=t), 0))


def _in_place(student, teacher, t, mask):
    """Return a chunk's sum, its gradient (written over the student's logits), and its gradient with respect to t."""

    def add_piece(i, carry):
        total, z, to_t = carry
        piece = (lax.dynamic_index_in_dim(x, i, 1, keepdims=False) for x in (z, teacher, t, mask))
        value, slopes = jax.value_and_grad(_of_rows, (0, 2))(*piece)
        z, to_t = (lax.dynamic_update_index_in_dim(x, g, i, 1) for x, g in zip((z, to_t), slopes, strict=True))
        return total + value, z, to_t

    return lax.fori_loop(0, PIECES, add_piece, (jnp.zeros((), t.dtype), student, t))


def _chunks(rows_per_chunk, student, teacher, t, mask):
    """Reshape rows to [chunks, rows ÷ pieces, pieces, …], padded with invalid rows.

    Every chunk and piece takes its rows from across the batch, so that rows sharded over a mesh stay on their devices.
    """
    count = max(1, -(-len(t) // max(rows_per_chunk, PIECES)))
    few = max(1, -(-len(t) // (count * PIECES)))

    def cut(x, fill=0):
        x = jnp.pad(x, [(0, few * PIECES * count - len(t))] + [(0, 0)] * (x.ndim - 1), constant_values=fill)
        return jnp.moveaxis(x.reshape(few, PIECES, count, *x.shape[1:]), 2, 0)

    return cut(student.features), cut(teacher.features), cut(t, 1), cut(mask)


def _product(a, b, dtype):
    return jnp.matmul(a, b, precision="highest", preferred_element_type=dtype)


def _add_product(total, a, b, rows_per_chunk):
    """Compute total + a b in place, a few rows at a time, without a second array of total's size."""
    height = min(rows_per_chunk, len(total))

    def add(start, size, total):
        before, factor = (lax.dynamic_slice_in_dim(x, start, size) for x in (total, a))
        return lax.dynamic_update_slice_in_dim(total, before + _product(factor, b, total.dtype), start, 0)

    blocks = len(total) // height
    total = lax.fori_loop(0, blocks, lambda i, total: add(i * height, height, total), total)
    return add(blocks * height, len(total) % height, total) if len(total) % height else total
