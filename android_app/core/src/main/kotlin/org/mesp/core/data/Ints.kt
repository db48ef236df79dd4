package org.mesp.core.data

private const val BLOCK_BITS = 14
private const val BLOCK = 1 shl BLOCK_BITS

/** Whole numbers, as many as come, four bytes each. They are kept in blocks, so that growing copies no more than one of them. */
internal class Ints {
    private val blocks = arrayListOf(IntArray(16))
    var size = 0
        private set

    /** Numbers that there is room for. */
    val capacity: Int get() = blocks.sumOf(IntArray::size)

    operator fun get(index: Int): Int = blocks[index ushr BLOCK_BITS][index and BLOCK - 1]

    operator fun set(index: Int, value: Int) {
        blocks[index ushr BLOCK_BITS][index and BLOCK - 1] = value
    }

    fun add(value: Int) {
        if (size == blocks[0].size && size < BLOCK) blocks[0] = blocks[0].copyOf(2 * size)
        if (size == blocks.size shl BLOCK_BITS) blocks.add(IntArray(BLOCK))
        this[size++] = value
    }

    fun toArray() = IntArray(size, ::get)
}

/** Yes or no, as many as come, a bit each. */
internal class Bits {
    private val words = Ints()
    var size = 0
        private set

    operator fun get(index: Int): Boolean = words[index ushr 5] ushr (index and 31) and 1 == 1

    fun add(value: Boolean) {
        if (size and 31 == 0) words.add(0)
        if (value) words[size ushr 5] = words[size ushr 5] or (1 shl (size and 31))
        size++
    }
}
