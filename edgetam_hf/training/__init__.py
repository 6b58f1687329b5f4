"""Synthetic pictures, losses and loops with which the embedded nano checkpoint was trained."""
