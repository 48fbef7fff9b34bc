"""Multimodal knowledge distillation in JAX: pure functions, one explicit state."""
