"""The small models of all families."""

from tests.parity import image_cases, text_cases, video_cases

CASES = text_cases.CASES | image_cases.CASES | video_cases.CASES
