package org.mesp.app.service

import java.io.File
import kotlinx.serialization.json.JsonObject
import org.mesp.core.training.Control
import org.mesp.core.training.Listener
import org.mesp.core.training.TrainSettings

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
    ) = org.mesp.core.training.train(bundle, output, settings, environment, listener, control, resume)

    override fun writeFailure(output: File, reason: String, environment: JsonObject) =
        org.mesp.core.report.writeFailure(output, reason, environment)
}
