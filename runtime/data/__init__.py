"""From a data file to the examples of a step.

rows       the rows of a file, checked, each with its place for messages
labels     a row as tokens, and which of them are trained on
dataset    examples: windows, cutting, the held-out part, the order
"""
