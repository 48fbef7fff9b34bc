"""Models that see an image, hear, or both: what passes between modalities."""

from mmkd_jax import losses
from mmkd_jax.core.objective import term
from mmkd_jax.nn.connectors import Linear
from tests.mechanisms.stages.stage import Stage
from tests.methods.cross import METHODS, MODELS, TRAINED
from tests.small import make_batches

CONTRAST = term(
    losses.ccl,
    student="student.embedding",
    teacher="audio_teacher.embedding",
    labels="batch.label",
    connect={"student": Linear(6)},
    where=("labelled", "present.audio"),
    weight=0.1,
)
STAGES = {
    "methods": Stage(MODELS, make_batches, {f"methods.{n}": m for n, m in METHODS.items()} | {"ccl": CONTRAST}, TRAINED)
}
