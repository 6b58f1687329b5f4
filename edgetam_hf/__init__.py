"""EdgeTAM for Hugging Face Transformers."""

from pathlib import Path

# In a checkout the remote-code files lie at the repository root, in a wheel beside this file.
if not Path(__file__).with_name("modeling_edgetam.py").exists():
    __path__.append(str(Path(__file__).parents[1]))
