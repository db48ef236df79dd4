package org.mesp.core.engine

import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Direct memory of zeros. */
internal fun zeros(bytes: Long): ByteBuffer = ByteBuffer.allocateDirect(Math.toIntExact(bytes)).order(ByteOrder.nativeOrder())
