"""Every loss and every method at work: a topic or a family a file, each with its `STAGES`."""

from tests.mechanisms.stages import adversarial, alignment, clip, cross, pictures, structure

FILES = (pictures, clip, cross, alignment, adversarial, structure)
STAGES = {f"{file.__name__.rpartition('.')[2]}, {name}": stage for file in FILES for name, stage in file.STAGES.items()}
