package org.mesp.core.data

import java.io.File
import kotlin.system.exitProcess

/** Opens a tokenizer's folder, uses it, and tells what that took: `tools/real_tokenizers.py` runs it with little heap. */
fun main(arguments: Array<String>) {
    val start = System.nanoTime()
    val tokenizer = openTokenizer(File(arguments.single()))
    val seconds = (System.nanoTime() - start) / 1e9
    check(tokenizer.decode(tokenizer.encode("Who's there?").ids) == "Who's there?")
    System.gc()
    val heap = Runtime.getRuntime().run { totalMemory() - freeMemory() } / 1e6
    println("""{"seconds": $seconds, "heap_mb": $heap, "tokens": ${tokenizer.tokens}}""")
    exitProcess(0)
}
