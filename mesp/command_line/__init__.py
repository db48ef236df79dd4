"""The command line: it stands above all other packages, and none of them imports it.

parser            ``mesp``: what it takes, and its exit status
streams           standard output and signals, whatever becomes of the terminal
train_options     options of a run's settings, for here and for a phone, from runtime/contract
commands          what each command does, but for
try_out           several of them in one go
train             those that train, and what comes after: next_steps
device            ``mesp device …``: what its commands take
device_commands   what they do, but for
device_train      those that train
"""
