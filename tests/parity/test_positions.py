"""Relative positions in long texts and recordings: the buckets of transformers, also where float32 rounds."""

import types

import numpy as np
import pytest
import torch
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

from mmkd_jax.nn.relative import relative_buckets, signed_buckets

LENGTH = 1_100
APART = torch.arange(LENGTH)[None] - torch.arange(LENGTH)[:, None]


def test_buckets_of_mpnet():
    theirs = MPNetEncoder.relative_position_bucket(APART).numpy()
    np.testing.assert_array_equal(relative_buckets(LENGTH, 32, 128), theirs)


@pytest.mark.parametrize(("buckets", "reach"), [(320, 800), (12, 40)])
def test_buckets_of_wavlm(buckets, reach):
    sizes = types.SimpleNamespace(num_buckets=buckets, max_distance=reach)
    theirs = WavLMAttention._relative_positions_bucket(sizes, APART).numpy()
    np.testing.assert_array_equal(relative_buckets(LENGTH, buckets, reach), theirs)


@pytest.mark.parametrize(("buckets", "reach"), [(256, 512), (8, 20), (5, 9)])
def test_buckets_of_deberta(buckets, reach):
    theirs = make_log_bucket_position(-APART, buckets, reach).long().numpy()
    np.testing.assert_array_equal(signed_buckets(LENGTH, buckets, reach), theirs)
