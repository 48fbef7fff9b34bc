"""Quantization of an ONNX file to int8 by onnxruntime, calibrated on rows of the data."""

import logging
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mmkd_jax import files
from mmkd_jax.errors import UserError

_MOST_ROWS = 512


def quantize(path: pathlib.Path, calibration: Iterable[Mapping[str, np.ndarray]]) -> None:
    """Quantize products and convolutions of an ONNX file, in place: weights by output channel, activations by range.

    Args:
        path: the file.
        calibration: columns of batches, of which the first 512 rows are used.

    Raises:
        UserError: onnxruntime cannot quantize the file.
    """
    from onnxruntime import quantization

    def batches():
        rows = 0
        for columns in calibration:
            if rows >= _MOST_ROWS:
                return
            rows += len(next(iter(columns.values())))
            yield dict(columns)

    class _Rows(quantization.CalibrationDataReader):
        def __init__(self):
            self.batches = batches()

        def get_next(self) -> Any:
            return next(self.batches, None)

    small = path.with_name("int8.onnx")
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it recommends a step that changes nothing here
    try:
        quantization.quantize_static(
            path,
            small,
            _Rows(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Conv"],
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QUInt8,
        )
    except (ValueError, RuntimeError, AttributeError, KeyError, IndexError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"onnxruntime cannot quantize {path.name}: {first[:300]}") from error
    finally:
        logging.root.setLevel(level)
    with files.reported(path):
        small.replace(path)
