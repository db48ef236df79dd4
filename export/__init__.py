"""From a checkpoint to a bundle: the training programs of a phone, and the schedules that call them.

The rooms, in the order in which data flows:

    export_settings   what a person chooses
    model/            what a checkpoint is
        checkpoint            a source of weights, opened
        safetensors_checkpoint, gguf_checkpoint, random_checkpoint    the three kinds
        tensor_account        every stored tensor against the configuration
        huggingface_folder    configuration and tokenizer, by transformers
        gguf_file, gguf_configuration, gguf_tokenizer    a GGUF's header, and what its keys mean
        configuration         a configuration that is read without overlooking a field
        families/             a family of models a file: its configuration as an architecture
        architecture          a decoder as a value: layers, sublayers, projections
        quantize              how a frozen weight lies in the file, and the operators that undo it
    programs/         the work on one tile or some rows, as functions of named tensors
        ops                   the maths: every operation's forward beside its backward
        program, arguments    what a program is, and the arguments that programs share
        tiles, adapter_layout, plan    how widths are cut, where the adapter lies, and all that programs depend on
        attention, feed_forward, middle, sublayer    a sublayer, and the part in which sublayers differ
        head, update, block_inputs, perturbation, autodiff    both ends of the model, optimizers, and what single methods need
        catalogue             all of them, by what they are for
        workspace             what XNNPACK takes for them
    schedules/        what calls the programs
        writer                instructions from what arguments say of themselves
        method                the pass forward, the head, and what is done with a gradient
        backpropagation, mesp, store_h, mebp, mezo    how each method comes by the gradients
        schedules             all schedules of a bundle
    bundle/           the folder that a runtime opens
        make_plan             settings checked against a model
        weights_file, initial_adapter, mobile, chat, stops    weights, adapter, and what a phone's tokenizer needs
        lower, beside         programs to one ExecuTorch file, while a second process writes the weights
        export                all of it, into a folder that appears when it is whole
    predict/          what training will take, before anything is exported
        footprint, flops, duration
    reference/        the same model by transformers
        bundle_weights, transformers_model    a bundle or a checkpoint as transformers' model, and PEFT's adapter on it
        verify                a bundle's gradients against autograd
        adapter_config        PEFT's, as someone made it
        merge, generate       the adapter in the model's weights; text before and after
    convert/          the adapter in other programs' formats
        lora, gguf_lora, mlx, convert

    api                       what ``mesp`` has of this package

``mesp.runtime`` holds what a phone needs as well: the schedule's language, the bundle's format, the interpreter. It never imports this
package. DESIGN.md in this folder says why things are as they are, with the measurements.
"""

import sys
from types import ModuleType
from typing import Any


class _Export(ModuleType):
    """This package, which can be called: ``mesp.export(...)`` exports."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        from .api import export

        return export(*arguments, **named)


sys.modules[__name__].__class__ = _Export
