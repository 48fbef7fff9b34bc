"""Animations: read as a whole, or refused with one line."""

import numpy as np
import pytest

from mmkd_jax.errors import UserError
from tests.readers import videos


@pytest.mark.parametrize("case", videos.CASES, ids=lambda c: c.name)
def test_a_file(case, tmp_path):
    path = tmp_path / "file"
    case.make(path)
    if isinstance(case.expected, str):
        with pytest.raises(UserError, match=case.expected):
            videos.read(path)
    else:
        np.testing.assert_array_equal(videos.read(path), case.expected, strict=True)
