package org.mesp.core.generation

import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable
import org.mesp.core.UsageException

/**
 * How text is made, with the names, defaults and limits of runtime/contract/generation.schema.json: those of `mesp generate`.
 *
 * @param chat the prompt is a user's turn, by the chat template; [system] is the turn before it
 * @param maxNewTokens at most; the token that ends a text ends sooner
 * @param temperature 0 takes the likeliest token each time; above it, tokens are drawn
 * @param topK draw from so many of the likeliest tokens; 0 for all
 * @param topP draw from the likeliest tokens that together have this probability
 * @param minP draw from the tokens with at least so much of the likeliest one's probability
 * @param repetitionPenalty above 1, tokens that were there already are less likely
 * @param seed of what is drawn
 */
@Serializable
data class GenerateOptions(
    val chat: Boolean = false,
    val system: String? = null,
    @SerialName("max_new_tokens") val maxNewTokens: Int = 64,
    val temperature: Double = 0.0,
    @SerialName("top_k") val topK: Int = 0,
    @SerialName("top_p") val topP: Double = 1.0,
    @SerialName("min_p") val minP: Double = 0.0,
    @SerialName("repetition_penalty") val repetitionPenalty: Double = 1.0,
    val seed: Long = 0,
) {
    init {
        need(maxNewTokens >= 1, "max_new_tokens", maxNewTokens, "a whole number of at least 1")
        need(temperature >= 0 && temperature.isFinite(), "temperature", temperature, "a number of at least 0")
        need(topK >= 0, "top_k", topK, "a whole number of at least 0, where 0 is all")
        need(topP > 0 && topP <= 1, "top_p", topP, "above 0 and at most 1")
        need(minP in 0.0..1.0, "min_p", minP, "between 0 and 1")
        need(repetitionPenalty > 0 && repetitionPenalty.isFinite(), "repetition_penalty", repetitionPenalty, "a number above 0")
        if (system != null && !chat) refuse("system is a turn of a chat: set chat.")
        for ((name, isSet) in mapOf("top_k" to (topK != 0), "top_p" to (topP != 1.0), "min_p" to (minP != 0.0))) {
            if (isSet && temperature == 0.0) refuse("$name chooses what tokens are drawn from, but at temperature 0 none is drawn: raise it.")
        }
    }

    private fun refuse(message: String): Nothing = throw UsageException(message)

    private fun need(holds: Boolean, name: String, value: Any, expected: String) {
        if (!holds) refuse("$name $value must be $expected.")
    }
}
