package org.mesp.app

import java.io.File
import kotlinx.serialization.json.JsonObject
import org.mesp.core.Control
import org.mesp.core.Listener
import org.mesp.core.TrainSettings

/** What trains: [CoreTrainer], or a stand-in in tests. */
interface Trainer {
    fun train(
        bundle: File,
        output: File,
        settings: TrainSettings,
        environment: JsonObject,
        listener: Listener,
        control: Control,
        resume: Boolean,
    ): JsonObject

    fun writeFailure(output: File, reason: String, environment: JsonObject)
}

object CoreTrainer : Trainer {
    override fun train(
        bundle: File,
        output: File,
        settings: TrainSettings,
        environment: JsonObject,
        listener: Listener,
        control: Control,
        resume: Boolean,
    ) = org.mesp.core.train(bundle, output, settings, environment, listener, control, resume)

    override fun writeFailure(output: File, reason: String, environment: JsonObject) =
        org.mesp.core.writeFailure(output, reason, environment)
}
