"""Labelling by the million: pictures and clips from anywhere, masks for all of them, each exactly once.

A `Source` lists items, in parts that workers read apart. A `Labeller` decodes an item, segments a batch of them and
makes a row of each. What runs them is Ray Data, or a loop in this process; both write the same folder.
"""
