"""Adversarial distillation methods."""
