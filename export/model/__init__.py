"""What a checkpoint is: its weights, a tensor at a time, and its architecture as a value.

Read in this order: ``architecture`` (the value that all other rooms walk over), ``families`` (who makes it), ``configuration`` (so that no field
is overlooked), ``checkpoint`` and its three kinds, ``tensor_account`` (so that no tensor is), ``huggingface_folder``, ``gguf_file`` and what its
keys mean (``gguf_configuration``, ``gguf_tokenizer``), ``quantize``.
"""
