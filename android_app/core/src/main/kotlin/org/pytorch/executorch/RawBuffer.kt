package org.pytorch.executorch

import java.nio.Buffer

/**
 * The memory that a result was computed into, without a copy. The library keeps its accessor to its own package; the alternative that
 * it offers everyone, copyDataInto, would need a second place for every result that is read in parts.
 */
fun rawBuffer(tensor: Tensor): Buffer = tensor.getRawDataBuffer()
