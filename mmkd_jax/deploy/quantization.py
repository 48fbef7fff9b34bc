"""Quantization of Linen models by qwix: after training, and aware of it in training."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax

from mmkd_jax.core.model import LinenApply, Model
from mmkd_jax.errors import UserError, shown
from mmkd_jax.training.roles import MovingAverage
from mmkd_jax.training.training import Training

_BITS = (8, 7, 6, 5)  # XLA multiplies no narrower integers on CPUs


@dataclasses.dataclass(frozen=True, eq=False)
class AwareApply(LinenApply):
    """Forward pass of a Linen module with simulated quantization.

    Attributes:
        original: the module without it.
    """

    original: nn.Module


def qat(model: Model, bits: int = 8) -> Model:
    """Return a model that trains aware of its quantization: it rounds weights and activations of its products.

    Formula: y = s_x s_w round(x / s_x) round(w / s_w), with the gradient of y = x w (straight-through)

    Scales s are per row of the activations and per output channel of the weights. The variables have the same names and
    shapes, so that a second training starts from those of the first, with the teacher's loss.

    Args:
        model: the model, from `mmkd.linen(module)`.
        bits: 5 to 8.

    Raises:
        UserError: the model is not a Linen module, or the package qwix is missing.

    Source: Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
    2018, https://arxiv.org/abs/1712.05877

    Example:
        >>> from mmkd_jax.core.model import linen
        >>> from mmkd_jax.models import ImageMLP, Multimodal
        >>> student = linen(Multimodal({"image": ImageMLP((4,))}, 3, 4))
        >>> aware = qat(student)  # doctest: +SKIP
    """
    module = _module(model, "qat")
    qwix = _package()
    rule = qwix.QtRule(module_path=".*", weight_qtype=_type(bits), act_qtype=_type(bits))
    aware = qwix.quantize_model(module, qwix.QtProvider([rule]))

    def init(key, batch):
        return model.init(key, batch)

    return model._replace(init=init, apply=AwareApply(aware, module))


def quantized(training: Training, variables: Any, bits: int = 8) -> tuple[Training, Any]:
    """Quantize the evaluated model of a training after it: weights are stored as integers.

    Args:
        training: the training.
        variables: variables of its evaluated model.
        bits: 5 to 8.

    Returns:
        The training with the quantized model, and its variables.

    Raises:
        UserError: the model is not a Linen module, qwix cannot quantize it, or the package qwix is missing.
    """
    name, role = _role(training)
    module = _module(role.model, "--int8")
    qwix = _package()
    rule = qwix.QuantizationRule(module_path=".*", weight_qtype=_type(bits), act_qtype=_type(bits))
    model = role.model._replace(apply=LinenApply(qwix.quantize_model(module, qwix.PtqProvider([rule]))))

    def init(key, batch):
        from mmkd_jax.core.model import StepContext

        assert isinstance(model.apply, LinenApply)
        return model.apply.module.init(key, batch, StepContext(0, key, train=False), {})

    changed = dataclasses.replace(role, model=model._replace(init=init), init_from=None)
    changed = dataclasses.replace(training, models={**training.models, name: changed})
    with refused_in_one_line():
        like = changed.shapes(changed.evaluate)[0]
        params = qwix.quantize_params(jax.device_put(variables["params"]), like["params"])
    return changed, {**variables, "params": jax.device_get(params)}


@contextlib.contextmanager
def refused_in_one_line() -> Iterator[None]:
    """Turn what qwix raises, here or when the quantized model is traced, into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        first = shown((str(error).strip().splitlines() or [type(error).__name__])[0], 200)
        raise UserError(f"qwix cannot quantize this model ({first}): use --to onnx --int8") from error


def without_rounding(training: Training) -> Training:
    """Return a training whose evaluated model does not simulate quantization."""
    name, role = _role(training)
    if not isinstance(role.model.apply, AwareApply):
        return training
    changed = dataclasses.replace(role, model=role.model._replace(apply=LinenApply(role.model.apply.original)))
    return dataclasses.replace(training, models={**training.models, name: changed})


def _role(training: Training) -> tuple[str, Any]:
    name, role = training.evaluate, training.models[training.evaluate]
    return (role.of, training.models[role.of]) if isinstance(role, MovingAverage) else (name, role)


def _module(model: Model, what: str) -> nn.Module:
    if isinstance(model.apply, AwareApply):
        return model.apply.original
    if not isinstance(model.apply, LinenApply):
        raise UserError(f"{what}: the model is not a Linen module as it is; expected mmkd.linen(module)")
    return model.apply.module


def _type(bits: int) -> str:
    if isinstance(bits, bool) or bits not in _BITS:
        raise UserError(f"bits is {bits!r}; expected 5 to 8: narrower integers cannot be multiplied on every device")
    return f"int{bits}"


def _package() -> Any:
    try:
        import qwix
    except ImportError:
        raise UserError("quantization needs the package qwix: pip install 'mmkd_jax[quant]'") from None
    return qwix
