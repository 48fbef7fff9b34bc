"""Processor settings of any content: read, or refused in one line before an image is."""

import numpy as np
import pytest

from mmkd_jax.data import images
from mmkd_jax.errors import UserError
from tests.readers.settings import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.variant)
def test_processor_settings(case, tmp_path):
    path = tmp_path / "preprocessor_config.json"
    case.make(path)
    if isinstance(case.expected, str):
        with pytest.raises(UserError, match=case.expected) as error:
            images.read(tmp_path, {})
        assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
    else:
        image = np.zeros((20, 30, 3), np.uint8)
        assert list(images.read(tmp_path, {})([image])["image"][0].shape) == case.expected
