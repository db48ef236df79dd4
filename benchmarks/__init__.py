"""Measures tables of figures in our own runtime: ``mesp bench``.

    table       a table's definition, TOML, to its cells
    process     a process run to its end, with its peak memory
    cell        one cell: export, plan, inspect and train in processes of their own, or a baseline's module
    bench       all cells, resumed where they were left; results.json
    measured    results.json read back, and the figures that are quoted of it
    report      results.md
    draw        the plots

tables/ has the definitions, configurations/ the models'. The other modules are scripts that answer one question each: workspace, step_profile
and mezo are run as ``python -m mesp.bench.NAME``, the others as files.
"""
