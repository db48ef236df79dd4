"""The same model by transformers: what a bundle is checked against, and what merges and speaks.

Read in this order: ``bundle_weights`` (weights put together from their tiles), ``adapter_config``, ``transformers_model``, ``verify``,
``merge``, ``generate``.
"""
