"""Fine-tune language models on Android: LoRA with exact gradients in little memory.

    runtime        runs a bundle on the host, and has what is shared with the app
    export         from a checkpoint to a bundle
    bench          measures tables of figures, and answers single questions
    device         fine-tunes on a phone over adb
    command_line   ``mesp``: stands above all of them

The first four are links to runtime/, export/, benchmarks/ and android_app/device/. Each has a page that lists its rooms.
"""
