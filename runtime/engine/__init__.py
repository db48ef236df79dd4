"""A bundle and its interpreter.

schedule        the language of a step, and the check of a list of its instructions
arena           places for the buffers of a schedule
manifest        what manifest.json says
bundle          a bundle's folder, opened and checked
sizes           the lengths that a bundle has schedules for
session         the interpreter: programs by ExecuTorch, weights in place, one arena
executorch_runtime    ExecuTorch's runtime, without its compiler
tensor_file     safetensors piece by piece
scratch         a tensor that is kept in a file
random_signs    the noise of MeZO, the same in every runtime
"""
