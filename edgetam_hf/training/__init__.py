"""Training: its data, distillation, and what `edgetam train` runs."""
