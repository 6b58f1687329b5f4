"""Measures of the field: J&F of video object segmentation, and IoU after clicks on pictures."""
