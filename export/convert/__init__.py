"""An adapter in the formats of other programs: llama.cpp's and mlx-lm's, and PEFT's under the name that the Hub has for its model.

Read in this order: ``lora`` (an adapter as values), ``gguf_lora``, ``mlx``, and ``convert``, which finds adapter and model.
README.md has how each is used.
"""
