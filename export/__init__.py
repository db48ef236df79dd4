"""From a checkpoint to a bundle: the training programs of a phone, and the schedule that calls them.

Data flows one way, a stage a file:

    checkpoint     rows of a tensor at a time, from safetensors, a GGUF, or random numbers
    architecture   what of a configuration the programs depend on, and what is refused
    quantize       how a frozen weight lies in the file, and the operators that undo it
    ops            the maths: every operation's forward beside its backward
    programs       the work on one tile of one kind of layer, as functions of named tensors
    sequence       what every method's schedule shares, and the writing of it
    methods        how a block's gradients come from its input: MeSP, and what it is compared with
    autodiff       MeBP's block, differentiated by torch
    schedule       all schedules of a bundle
    weights        the weights file, in the programs' layout
    lower          programs to one ExecuTorch file, each one XNNPACK delegate
    beside         the weights are written in a second process while the programs are lowered
    bundle         all of it, into a folder that appears when it is whole
    verify         a bundle's gradients against autograd
    footprint      the memory of a step before anything is exported

    transformers_model    a checkpoint or a bundle as transformers' model, and PEFT's adapter on it
    merge          the adapter added to the model's weights
    generate       text before and after fine-tuning

    cli, commands  the command: what it takes, and what it does

``mesp.runtime`` holds what a phone needs as well: the schedule's language, the bundle's format, the interpreter. It never imports this
package. DESIGN.md in this folder says why things are as they are, with the measurements.
"""
