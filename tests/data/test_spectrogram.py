"""Mel spectra: windows, frames and filters by what they are for."""

import numpy as np
import pytest

from mmkd_jax.data import spectrogram


def test_a_tone_is_in_the_band_that_is_centred_on_it():
    filters = spectrogram.mel_filters(512, 20, 16_000)
    centers = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8_000 / 700), 22)[1:-1] / 2595) - 1)
    for band in (3, 10, 19):
        tone = np.sin(2 * np.pi * centers[band] * np.arange(4_000) / 16_000)
        seen = spectrogram.power(spectrogram.frames(tone, 400, 160) * spectrogram.hann(400), 512) @ filters
        assert seen.shape == (23, 20)
        assert (seen.argmax(1) == band).all()


@pytest.mark.parametrize("scale", ["htk", "kaldi"])
def test_triangles_share_every_frequency_between_two_neighbours(scale):
    filters = spectrogram.mel_filters(512, 20, 16_000, low=60.0, scale=scale)
    where = np.fft.rfftfreq(512, 1 / 16_000)
    low, high = 2595 * np.log10(1 + np.array([60, 8_000]) / 700)
    edges = 700 * (10 ** (np.linspace(low, high, 22) / 2595) - 1)
    inside = (where > edges[1]) & (where < edges[-2])
    np.testing.assert_allclose(filters[inside].sum(1), 1)
    assert not filters[where < 60].any() and ((filters > 0).sum(1) <= 2).all()


def test_slaneys_triangles_have_an_area_of_one():
    filters = spectrogram.mel_filters(8_192, 40, 16_000, scale="slaney")
    np.testing.assert_allclose(filters.sum(0) * 16_000 / 8_192, 1, rtol=2e-3)


def test_the_periodic_window_has_one_neighbour_to_each_side():
    """Its transform is 1/2 at 0 and −1/4 at the neighbors, nothing else."""
    np.testing.assert_allclose(np.fft.fft(spectrogram.hann(16)) / 16, [0.5, -0.25, *[0] * 13, -0.25], atol=1e-15)
