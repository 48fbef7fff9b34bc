"""Training that is aware of quantization: the same variables, rounded in every step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import data, tasks
from mmkd_jax.core.model import linen, plain, predict
from mmkd_jax.core.objective import combine
from mmkd_jax.deploy import qat
from mmkd_jax.deploy.program import export_training
from mmkd_jax.deploy.quantization import quantized, refused_in_one_line
from mmkd_jax.errors import UserError
from mmkd_jax.models import Multimodal, TextLSTM
from mmkd_jax.training.roles import Trained
from mmkd_jax.training.training import Training
from tests.small import make_batch, net, on_device


def test_an_aware_model_has_the_same_variables_and_rounds_its_products():
    model, batch = net(4, "image", "audio"), on_device(make_batch())
    aware, coarse = qat(model), qat(model, bits=5)
    variables = jax.jit(model.init)(jax.random.key(0), batch)
    own = jax.eval_shape(aware.init, jax.random.key(0), batch)
    assert jax.tree.structure(own) == jax.tree.structure(variables)

    def loss(params, model):
        return jnp.mean(predict(model, {**variables, "params": params}, batch)["logits"] ** 2)

    (a, da), (b, db) = (jax.jit(jax.value_and_grad(lambda p: loss(p, m)))(variables["params"]) for m in (model, aware))  # noqa: B023
    assert a != b and abs(a - b) < 0.1 * abs(a)
    c = jax.jit(lambda p: loss(p, coarse))(variables["params"])
    assert abs(a - b) < abs(a - c) < 0.5 * abs(a)
    for x, y in zip(jax.tree.leaves(da), jax.tree.leaves(db), strict=True):  # straight through
        assert np.linalg.norm(x - y) < 0.2 * np.linalg.norm(x) + 1e-6


def test_a_model_that_is_not_a_linen_module_and_other_bits_are_refused():
    with pytest.raises(UserError, match="qat: the model is not a Linen module"):
        qat(plain(lambda params, batch: {"logits": batch["x"]}))
    with pytest.raises(UserError, match="bits is 4; expected 5 to 8"):
        qat(net(4), bits=4)


def test_a_model_that_qwix_cannot_quantize_is_refused_in_one_line():
    """Its recurrent kernel is multiplied outside a Dense layer."""
    student = linen(Multimodal({"text": TextLSTM(10, 4)}, 2, 4))
    columns = {"text.ids": np.ones((4, 3), np.int32), "text.mask": np.ones((4, 3), bool)}
    columns |= {"label": np.arange(4, dtype=np.int32) % 2}
    rows = data.InMemory(data.from_columns(columns, "texts"), 4)
    task = tasks.classification(2)
    training = Training(
        {"student": Trained(student)}, combine(task=task.objective()), optax.sgd(0.1), task, rows, rows, rows, steps=1
    )
    with pytest.raises(UserError, match="qwix cannot quantize this model .*: use --to onnx --int8"):
        with refused_in_one_line():
            export_training(quantized(training, training.own_variables("student", 0))[0])
