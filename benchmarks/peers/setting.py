"""The work that all do: made-up rows, a large teacher of text and pictures, a small student.

Rows have 64 tokens, some of them padding, and a picture of 64 × 64. The teacher is a Transformer of 6 layers of 384 and
a ViT of 4 layers of 192 side by side; the student one of 2 layers of 128 and three convolutions with BatchNorm.
Cross-entropy, KL at temperature 4 and the squared distance of the embeddings, AdamW, batches of 32.
"""

import flax.linen as nn
import jax
import numpy as np
import optax

import mmkd_jax as mmkd

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


def training(
    kept: mmkd.CacheSpec | None = None,
    reader=mmkd.data.InMemory,
    augment: mmkd.augment.Compose | None = None,
    **reading,
) -> mmkd.Training:
    """The student's training; without `kept` the teacher runs in every step.

    Args:
        kept: what is cached of the teacher.
        reader: of the training rows.
        augment: of the training batches.
        **reading: the reader's own arguments.
    """
    rows, task = mmkd.data.from_columns(columns(), "made-up"), mmkd.tasks.classification(CLASSES)
    text, image = TEACHER["text"], TEACHER["image"]
    encoders = {
        "text": mmkd.models.TextTransformer(VOCABULARY, *text, TOKENS),
        "image": mmkd.models.ImageTransformer(*image),
    }
    large = mmkd.models.Multimodal(encoders, CLASSES, TEACHER["width"])
    encoders = {
        "text": mmkd.models.TextTransformer(VOCABULARY, *STUDENT["text"], TOKENS),
        "image": mmkd.models.ImageCNN(STUDENT["image"], 2),
    }
    small = mmkd.models.Multimodal(encoders, CLASSES, STUDENT["width"])
    return mmkd.Training(
        models={
            "teacher": mmkd.Frozen(mmkd.linen(large), init_from="teacher.teacher", cache=kept),
            "student": mmkd.Trained(mmkd.linen(small)),
        },
        objective=mmkd.combine(
            task=task.objective(),
            soft=mmkd.term(mmkd.losses.kl, student="student.logits", teacher="teacher.logits", temperature=TEMPERATURE),
            hint=mmkd.term(
                mmkd.losses.hint,
                student="student.embedding",
                teacher="teacher.embedding",
                connect={"student": nn.Dense(TEACHER["width"])},
            ),
        ),
        optimizer=optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY),
        task=task,
        data=reader(rows, BATCH, **reading),
        validation=mmkd.data.InMemory(rows, BATCH),
        test=mmkd.data.InMemory(rows, BATCH),
        steps=100,
        augment=augment,
    )


def teacher_variables(own: mmkd.Training):
    """The teacher's variables: always the same."""
    zeros = {k: np.zeros(s.shape, s.dtype) for k, s in own.data.spec.items()}
    return jax.jit(lambda key: own.networks["teacher"].init(key, zeros))(jax.random.key(7))


def start(own: mmkd.Training, teacher):
    """The compiled programs and the first state, which is always the same; no teacher beside a cache."""
    program = mmkd.training.compile_training(own)
    return program, *program.start(jax.random.key(0), {} if own.cache else {"teacher": teacher}, {})
