"""The schedules: which programs are called with what, over layers and tiles.

Read in this order: ``writer``, ``method`` (what all methods share), ``backpropagation`` and ``mesp``, then what MeSP is compared with
(``store_h``, ``mebp``, ``mezo``), and ``schedules``, which has all of a bundle.
"""
