"""A run: from settings and a bundle to the run's folder.

settings          what a person chooses, checked
config            a file of settings
optimizer         learning rates, and the scalars of a step's update
stepper           one step, one evaluation: which schedules of the bundle run, with which inputs
resume            from a run's folder to what it was started with
start             what is checked before torch is loaded
loop              ``train``: steps, evaluations and checkpoints until the run is over
evaluation        ``evaluate``: held-out rows alone, without a step
adapter_config    what an adapter says of itself, accounted for
adapter           PEFT's adapters, in and out
checkpoints       what a run needs to go on
run_writer        the run's folder, written
listener          what a run tells whoever follows it
console_progress, tensorboard    listeners: on a terminal, and as event files
interrupt         Ctrl-C as a question that the loop asks
"""
