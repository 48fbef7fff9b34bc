"""Every loss and every method at work: a topic or a family a file, each with its `STAGES`."""

from tests.mechanisms.stages import cross, pictures

FILES = (pictures, cross)
from tests.mechanisms.stages import alignment, pictures

FILES = (pictures, alignment)
from tests.mechanisms.stages import clip, pictures

FILES = (pictures, clip)
STAGES = {f"{file.__name__.rpartition('.')[2]}, {name}": stage for file in FILES for name, stage in file.STAGES.items()}
