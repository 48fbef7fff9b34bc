"""Feature distillation losses; the first axis is the batch."""
