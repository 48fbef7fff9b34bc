"""The small models of all families."""

from tests.parity import audio_cases, image_cases, spectrum_cases, text_cases, video_cases

CASES = text_cases.CASES | image_cases.CASES | audio_cases.CASES | spectrum_cases.CASES | video_cases.CASES
