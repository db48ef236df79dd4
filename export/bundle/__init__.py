"""The bundle: the folder that export writes and a runtime opens.

Read in this order: ``make_plan``, ``weights_file``, ``initial_adapter``, ``lower``, ``beside``, ``mobile``, ``chat`` and ``stops`` (for a
phone's tokenizer), and ``export``, which calls all of them.
"""
