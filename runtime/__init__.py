"""Runs a bundle on the host: what the app on the phone does, in Python.

The rooms, in the order in which a run uses them:

    contract/   what Python, Kotlin and the harness share, as JSON Schema
    engine/     a bundle and its interpreter
        manifest, bundle, sizes   the format of a bundle, opening one; the lengths that it has programs for
        schedule, arena           the language of a step, and places for its buffers; both checked
        session                   the interpreter of schedules
        executorch_runtime        ExecuTorch's runtime, without its compiler
        planned                   the memory that schedules are known to take
        scratch, tensor_file      memory in files: what is offloaded, and safetensors written piece by piece
        random_signs              the noise of MeZO, the same on every machine
    data/       from a file to the examples of a step
        hub, records, rows, conversations, opening, labels, dataset
    training/   a run
        settings, config, start, resume, optimizer, stepper, loop, adapter_config, adapter, checkpoints, run_writer, listener
        console_progress, tensorboard, interrupt
    generation/ text
        options, sampling, decoding
    memory/     what a run takes
        sampler, watch, environment
    report/     what a run came to
        outcome                   report.json
        run_folder                a run's folder, read back
        words, headline, memory_bar, figures, comparison, charts, phone_rows, pages    report.html
        texts                     before and after
        inspect                   a bundle, for a person

    fleet/      one adapter from the data of many, on Flower (an extra)

    errors, files, account        what all rooms share
    api                           what ``mesp`` has of this package

Each room's own page tells more. Nothing here knows of transformers or of MeSP: a bundle's schedules say what to do, and its manifest says what
to keep and under which names.
"""
