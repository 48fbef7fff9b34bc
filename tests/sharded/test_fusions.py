"""Models with every fusion, and the load-balancing loss of one: eight devices give what one gives."""

import pytest

from mmkd_jax import losses
from mmkd_jax.core.model import linen
from mmkd_jax.core.objective import term
from mmkd_jax.models import AudioTDNN, ImageCNN, ImageMLP, Multimodal, branches
from mmkd_jax.models import fusion as fusions
from tests.sharded.agreement import agrees, on_one_device
from tests.small import CLASSES, task

FUSIONS = {
    "gated": fusions.Gated(4),
    "sum": fusions.Sum(4),
    "gmu": fusions.GMU(4),
    "tensor_fusion": fusions.TensorFusion(2),
    "low_rank": fusions.LowRank(4, rank=2),
    "attention": fusions.Attention(4, heads=2),
    "film": fusions.FiLM("audio", "image", 4),
    "moe": fusions.MoE(3, 4),
    "multiplicative": fusions.Multiplicative(4),
    "mixer": fusions.Mixer(4),
    "orthogonal": fusions.Orthogonal(4),
    "bottleneck": fusions.Bottleneck(2, 2, 4, 2),
    "cross_modal": fusions.CrossModal(1, 1, 4, 2),
    "perceiver": fusions.Perceiver(2, 2, 4, 2),
}


def model(fusion):
    image = ImageCNN((4,)) if getattr(fusion, "reads", "") == "tokens" else ImageMLP((4,))
    encoders = {"image": image, "audio": AudioTDNN((4,), reach=1)}
    late = isinstance(fusion, fusions.Late)
    return linen(Multimodal(encoders, fusion=fusion) if late else Multimodal(encoders, CLASSES, 4, fusion))


@pytest.fixture(scope="module")
def reference():
    student = branches({n: model(f) for n, f in FUSIONS.items()} | {"late": model(fusions.Late(CLASSES, "learned"))})
    balance = term(losses.load_balancing, router="student.moe.router", where="labelled")
    return on_one_device({"student": student}, {"task": task(), "balance": balance}, 3)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["jit", "shard_map"])
def test_steps_agree_with_one_device(form, mesh, reference):
    agrees(reference, form, mesh, rtol=1e-4, apart=5e-5)
