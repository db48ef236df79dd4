"""Text from a bundle: what both runtimes do alike, bit for bit.

options     what a person chooses, checked
sampling    which token comes next, by the logits
decoding    ids to text as they come, and where a text ends
"""
