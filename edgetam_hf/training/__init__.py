"""Training: data, distillation, what `edgetam train` runs, and where the embedded nano checkpoint came from."""
