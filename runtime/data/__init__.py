"""From a data file to the examples of a step.

hub            where data is that is not here
records        a file's records, whatever its format
rows           records as rows, checked: each key is used, refused or named
conversations  messages as tokens, by the chat template
parts          a long text in parts, whose tokens are those of the whole
labels         a row as tokens, and which of them are trained on
opening        a prompt from the first row
dataset        examples: windows, cutting, the held-out part, the order
"""
