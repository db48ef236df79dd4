"""Runs a bundle on the host: what the app on the phone does, in Python.

    schedule       the language of a step: five instructions, and the check of a list of them
    arena          places for the buffers of a schedule
    bundle         the format of a bundle, and opening one
    session        the interpreter
    adapter        PEFT's adapters, in and out
    data           rows to sequences
    optimizer      the scalars of a step
    memory, watch  samples of the footprint, by a process of their own
    train          the loop, and the files of a run
    report         report.html
    inspect        a bundle for a person
    progress       a run on a terminal

Nothing here knows of transformers' models or of MeSP: a bundle's schedules say what to do.
"""
