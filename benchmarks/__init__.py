"""What is measured, and how: the demo, the tables of figures, what others take for the same training, and one question at a time.

    demo            python -m mesp.bench.demo: a model learns Shakespeare, by the commands of a user

    cells/          ``mesp bench``: a table of models, lengths, ranks and methods, measured cell by cell
        definition      a table as a value: its cells
        reader          a table's TOML file
        bench           all cells one after the other, resumed where they were left
        cell            one cell: export, plan, inspect and train, or a baseline
        parts           what a cell's peak consists of, and what its first and last step held
        results         results.json, written and read back
        page            results.md
        plots, drawings which plots there are, and how each is drawn

    baselines/      the same training outside of our runtime, for a table's cells or alone (python -m mesp.bench.baselines.NAME)
        baseline            what they share: the model, the row, how a run is measured
        eager               PyTorch, with or without gradient checkpointing
        executorch_training ExecuTorch's own training

    questions/      a script for each question (python -m mesp.bench.questions.NAME)
        steps               what they share: rows, a step timed in turns with others, the memory of a training
        against_pytorch     a step against PyTorch's, and against its matrix products alone
        step_profile        where the time of a step goes
        method_costs        memory and time of bundles that differ in their method
        option_costs        the memory price of each option of training
        gradient_error      what block inputs in float16 cost in exactness
        mezo_estimate       how close MeZO's estimate is to the gradient
        head_on_targets     what a head on the rows with targets saves
        sequence_lengths    what several sequence lengths save
        program_workspace   XNNPACK's workspace of the largest programs, measured and predicted
        start               what the command line takes to refuse, to start and to train two steps
        kill_and_resume     whether a killed and resumed run comes to the same adapter
        android_core        the Android core on this machine against the host's runtime

    child           a function of export or runtime in a process of its own
    process         a process run to its end, with its time and peak memory

    tables/         the definitions for ``mesp bench``
    configurations/ the models' config.json
    results/        what was measured, with versions and machine

What sampling from outside costs a run on a phone needs the stand-in of the app's tests: android_app/tools/sampling_cost.py.
Nothing here starts the command line, but the demo and ``start``, or knows of phones: ``mesp device bench`` hands in what trains a cell.
"""
