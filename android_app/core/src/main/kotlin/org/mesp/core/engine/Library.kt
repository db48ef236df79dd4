package org.mesp.core.engine

import org.mesp.core.MespException
import org.mesp.core.UsageException
import org.pytorch.executorch.ExecuTorchRuntime

/** ExecuTorch's native library, and what it can run. */
object Library {
    /** Operators with their own kernels, by name, such as "aten::embedding.out". */
    val operators: Set<String> by lazy { loaded { ExecuTorchRuntime.getRegisteredOps().toSet() } }

    val backends: Set<String> by lazy { loaded { ExecuTorchRuntime.getRegisteredBackends().toSet() } }

    /**
     * Checks that everything that a bundle's programs call is there.
     *
     * @throws UsageException names what is missing
     * @throws MespException the library is not there for this device's processor
     */
    fun check(bundle: Bundle) = check(bundle.manifest.needs, operators, backends)

    internal fun check(needs: Needs, operators: Set<String>, backends: Set<String>) {
        val missing = (needs.backends - backends).map { "the backend $it" } + (needs.operators - operators).map { "the operator $it" }
        if (missing.isNotEmpty()) {
            throw UsageException(
                "The ExecuTorch library of this app lacks ${missing.joinToString()}, which the bundle's programs call. " +
                    "Use an app that was built with a newer library.",
            )
        }
    }

    private fun <T> loaded(what: () -> T): T =
        try {
            what()
        } catch (error: LinkageError) {
            throw MespException(
                "ExecuTorch's native library cannot be loaded (${error.message}). The app has it for ${System.getProperty("os.arch")} " +
                    "only if it was built so: install the APK of this device's ABI.",
                error,
            )
        }
}
