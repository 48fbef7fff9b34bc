from .exporting import Source as Source
from .exporting import stablehlo as stablehlo
from .quantization import qat as qat
from .student import Predictions as Predictions
from .student import Student as Student
from .student import load as load
