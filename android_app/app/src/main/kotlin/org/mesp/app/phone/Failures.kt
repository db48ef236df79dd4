package org.mesp.app.phone

import android.content.Context
import android.os.Build
import android.system.ErrnoException
import android.system.OsConstants
import java.io.FileNotFoundException
import java.nio.file.NoSuchFileException
import org.mesp.app.R
import org.mesp.core.MespException

/** What went wrong, for a person. */
fun reasonOf(context: Context, error: Throwable): String =
    when {
        isStorageFull(error) && error !is MespException -> context.getString(R.string.storage_full)
        error is MespException -> error.message.orEmpty()
        // A class that could not find the library at its first use throws it again later.
        error is LinkageError -> context.getString(R.string.wrong_abi, Build.SUPPORTED_ABIS.joinToString(), messageOf(error))
        error is OutOfMemoryError -> context.getString(R.string.out_of_memory, messageOf(error))
        error is FileNotFoundException || error is NoSuchFileException -> context.getString(R.string.file_gone, messageOf(error))
        else -> context.getString(R.string.unexpected, "${error.javaClass.simpleName}: ${messageOf(error)}")
    }

private fun messageOf(error: Throwable) = error.message ?: error.cause?.message ?: error.javaClass.simpleName

/** Whether the storage had no room left. */
fun isStorageFull(error: Throwable): Boolean =
    generateSequence(error) { it.cause }.take(10).any {
        (it is ErrnoException && it.errno == OsConstants.ENOSPC) || it.message?.contains("ENOSPC") == true ||
            it.message?.contains("No space left on device") == true
    }
