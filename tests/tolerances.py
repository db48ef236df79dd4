"""Every tolerance of the tests, in one table.

Relative errors in norm, |ours - reference| / |reference|, unless a line says otherwise.
"""

# Against autograd in double precision: rounding alone.
OP_FP64 = 1e-10
PROGRAM_FP64 = 1e-10
SCHEDULE_FP64 = 1e-9

# A lowered program against the same program run eagerly, both fp32: XNNPACK adds in another order.
LOWERED_FP32 = 2e-5

# The lowered programs' gradients against autograd in fp32, any tensor: what `mesp verify` allows.
GRADIENT_FP32 = 1e-4

# Gradients where block inputs are kept in float16, any tensor, against autograd, of models of two layers: 8e-4 was the largest found.
GRADIENT_FLOAT16_INPUTS = 2e-3

# Losses of training steps against PyTorch's own optimizers, absolute, in nats.
TRAINING_LOSS = 1e-5

# The same after fifty steps with schedule, accumulation and clipping; also of the gradients' norms, relative.
LONG_TRAINING_LOSS = 1e-3

# Logits of a model with an adapter, in fp32, by two ways to apply it; absolute.
LOGITS_FP32 = 1e-4

# A dequantized weight against the same levels, scale and offset worked out in double precision.
DEQUANTIZE_FP32 = 1e-6

# A slope from two losses in fp32, of lowered programs and of PyTorch.
MEZO = 1e-2

# A slope and a mean from two losses 1e-5 to both sides, in double precision: what is left of higher derivatives.
FINITE_DIFFERENCE = 1e-6
