"""How the embedded checkpoint was made, from clip art to `edgetam_hf/nano`; see the README there.

Pictures: `composites` draws them (`sprites`, `textures`, `shapes`), `crops` reads them, `train` teaches a `model` which
pixels belong together and then prompts (`losses`, `prompts`, `flat`), `evaluate` gives its figures, `export` writes it.

Clips: `moving` makes them of the same pictures (`cutouts`, `motions`, `davis_folder`), and `edgetam train` teaches the
memory by the configurations in `memory/`, whose kinds of data are in `crops` and `moving`.
"""
