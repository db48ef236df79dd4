package org.mesp.app.screens

import org.mesp.app.R

/** The phases of a step and their colours, as in the host's reports. */
object PhaseColours {
    private val COLOURS =
        mapOf(
            "embed" to R.color.phase_embed,
            "forward" to R.color.phase_forward,
            "head" to R.color.phase_head,
            "backward" to R.color.phase_backward,
            "perturb" to R.color.phase_perturb,
            "update" to R.color.phase_update,
        )

    fun of(kind: String): Int = COLOURS[kind] ?: R.color.phase_other

    /** The phase without its layer: "forward" of "forward 12". */
    fun kind(phase: String) = phase.trimEnd { it.isDigit() || it == ' ' }
}
