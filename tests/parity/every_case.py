"""The small models of all families."""

from tests.parity import image_cases, spectrum_cases, text_cases

CASES = text_cases.CASES | image_cases.CASES | spectrum_cases.CASES
