"""What training will take, before anything is exported: ``footprint`` (bytes), ``flops`` (the products of a step) and ``duration`` (seconds).

All three are counted from the schedules that an export would have.
"""
