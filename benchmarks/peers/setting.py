"""The work that all do: made-up rows, a large teacher of text and pictures, a small student.

Rows have 64 tokens, some of them padding, and a picture of 64 × 64. The teacher is a Transformer of 6 layers of 384 and
a ViT of 4 layers of 192 side by side; the student one of 2 layers of 128 and three convolutions with BatchNorm.
Cross-entropy, KL at temperature 4 and the squared distance of the embeddings, AdamW, batches of 32.
"""

import flax.linen as nn
import jax
import numpy as np
import optax

from mmkd_jax import data, losses, programs
from mmkd_jax.augment import Augmented
from mmkd_jax.cache import Kept
from mmkd_jax.models import ImageCNN, ImageTransformer, Multimodal, TextTransformer
from mmkd_jax.objective import combine, term
from mmkd_jax.part import Part
from mmkd_jax.tasks import classification
from mmkd_jax.views import linen

ROWS, BATCH, CLASSES, TOKENS, PIXELS, VOCABULARY = 1024, 32, 100, 64, 64, 30_522
LEARNING_RATE, WEIGHT_DECAY, TEMPERATURE = 1e-4, 1e-2, 4.0
TEACHER = {"text": (384, 6, 6), "image": (8, 192, 3, 4), "width": 384}
STUDENT = {"text": (128, 2, 2), "image": (32, 64, 128), "width": 128}
OUTPUTS = ("logits", "embedding")


def columns() -> dict[str, np.ndarray]:
    """The rows."""
    draw = np.random.default_rng(0)
    return {
        "image": draw.integers(0, 256, (ROWS, PIXELS, PIXELS, 3), dtype=np.uint8),
        "text.ids": draw.integers(0, VOCABULARY, (ROWS, TOKENS), dtype=np.int32),
        "text.mask": np.arange(TOKENS) < draw.integers(TOKENS // 2, TOKENS + 1, (ROWS, 1)),
        "label": draw.integers(0, CLASSES, ROWS, dtype=np.int32),
    }


def part(kept: Kept | None = None, reader=data.Memory, augment: Augmented | None = None, **reading) -> Part:
    """The student's part; without `kept` the teacher runs in every step.

    Args:
        kept: what is cached of the teacher.
        reader: of the training rows.
        augment: of the training batches.
        **reading: the reader's own arguments.
    """
    rows, task = data.from_columns(columns(), "made-up"), classification(CLASSES)
    text, image = TEACHER["text"], TEACHER["image"]
    encoders = {"text": TextTransformer(VOCABULARY, *text, TOKENS), "image": ImageTransformer(*image)}
    large = Multimodal(encoders, CLASSES, TEACHER["width"])
    encoders = {"text": TextTransformer(VOCABULARY, *STUDENT["text"], TOKENS), "image": ImageCNN(STUDENT["image"], 2)}
    small = Multimodal(encoders, CLASSES, STUDENT["width"])
    return Part(
        models={"teacher": linen(large), "student": linen(small)},
        objective=combine(
            task=task.objective(),
            soft=term(losses.kl, student="student.logits", teacher="teacher.logits", temperature=TEMPERATURE),
            hint=term(
                losses.hint,
                student="student.embedding",
                teacher="teacher.embedding",
                connect={"student": nn.Dense(TEACHER["width"])},
            ),
        ),
        optimizer=optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY),
        task=task,
        data=reader(rows, BATCH, **reading),
        validation=data.Memory(rows, BATCH),
        test=data.Memory(rows, BATCH),
        steps=100,
        take={"teacher": "teacher.teacher"},
        cache={} if kept is None else {"teacher": kept},
        augment=augment,
    )


def teacher_variables(own: Part):
    """The teacher's variables: always the same."""
    zeros = {k: np.zeros(s.shape, s.dtype) for k, s in own.data.spec.items()}
    return jax.jit(lambda key: own.models["teacher"].init(key, zeros))(jax.random.key(7))


def start(own: Part, teacher):
    """The compiled programs and the first state, which is always the same; no teacher beside a cache."""
    program = programs.compile_part(own)
    return program, *program.start(jax.random.key(0), {} if own.cache else {"teacher": teacher}, {})
