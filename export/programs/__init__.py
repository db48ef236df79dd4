"""The programs: each is the work on one tile of a sublayer, or on some rows, and becomes one XNNPACK delegate.

Read in this order: ``ops`` (the maths), ``program`` (what a program is), ``tiles``, ``adapter_layout`` and ``plan`` (what they depend on),
``arguments``, ``attention``, ``feed_forward`` and ``short_convolution`` (the middles of sublayers), ``middle``, ``sublayer``, ``head``,
``update``. ``block_inputs``, ``perturbation`` and ``autodiff`` are for single options and methods. ``catalogue`` has all by what they are for,
``workspace`` what they take.
"""
