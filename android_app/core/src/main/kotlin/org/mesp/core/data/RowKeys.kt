package org.mesp.core.data

// Which keys the rows of data may have, and what becomes of each: what rows.json of runtime/contract says.

/** What a row is. Its [keys] tell; [label] is its name in rows.json. A [FILE] is a text file: a text that does not end. */
internal enum class Kind(val label: String, val keys: List<String>) {
    FILE("file", emptyList()),
    TEXT("text", listOf("text")),
    COMPLETION("completion", listOf("prompt", "completion")),
    MESSAGES("messages", listOf("messages")),
    IDS("ids", listOf("input_ids", "labels")),
}

internal const val EXPECTED =
    "A row has \"text\", or \"prompt\" and \"completion\", or \"messages\", or \"input_ids\" and \"labels\""

/** Fields of other formats that are read as messages. */
internal val FOREIGN = mapOf("ShareGPT" to listOf("conversations"), "Alpaca" to listOf("instruction", "output"))

/** What a row of a kind or of another format may have beside. */
internal val OPTIONAL =
    mapOf(
        "ids" to listOf("attention_mask", "position_ids"),
        "ShareGPT" to listOf("system"),
        "Alpaca" to listOf("input", "system"),
    )

/** What `--map` may give a column to. */
internal val TARGETS = (Kind.entries.flatMap { it.keys } + FOREIGN.values.flatten() + OPTIONAL.values.flatten()).distinct()

internal val ROLES = listOf("system", "user", "assistant", "tool")

/** ShareGPT's names for the roles. */
internal val SPEAKERS =
    mapOf(
        "system" to "system",
        "human" to "user",
        "user" to "user",
        "gpt" to "assistant",
        "assistant" to "assistant",
        "chatgpt" to "assistant",
        "model" to "assistant",
        "tool" to "tool",
        "observation" to "tool",
        "function_response" to "tool",
    )

/**
 * A key that other trainers know, and that is refused unless its value is nothing, one of [harmless], or none of [harmful].
 *
 * @param kinds the kinds of rows that it is refused in; null for all
 */
internal class Reserved(
    val instead: String,
    val kinds: List<String>? = null,
    val harmless: List<String> = emptyList(),
    val harmful: List<String> = emptyList(),
)

internal val RESERVED =
    mapOf(
        "tools" to Reserved("Put their description into the system's content."),
        "functions" to Reserved("Put their description into the system's content."),
        "image" to Reserved("Only text is trained on."),
        "images" to Reserved("Only text is trained on."),
        "audio" to Reserved("Only text is trained on."),
        "audios" to Reserved("Only text is trained on."),
        "video" to Reserved("Only text is trained on."),
        "videos" to Reserved("Only text is trained on."),
        "weight" to Reserved("Every row counts the same: repeat or remove rows.", harmless = listOf("1", "1.0")),
        "weights" to Reserved("Every target counts the same: mask tokens by labels of -100.", harmless = listOf("1", "1.0")),
        "loss_weight" to Reserved("Every row counts the same: repeat or remove rows.", harmless = listOf("1", "1.0")),
        "loss_weights" to Reserved("Every target counts the same: mask tokens by labels of -100.", harmless = listOf("1", "1.0")),
        "sample_weight" to Reserved("Every row counts the same: repeat or remove rows.", harmless = listOf("1", "1.0")),
        "train" to Reserved("Remove the rows that are not to be trained on.", harmless = listOf("1", "true", "True")),
        "loss_mask" to Reserved("Write it into the labels, as -100."),
        "completion_mask" to Reserved("Write it into the labels, as -100."),
        "assistant_masks" to Reserved("Write it into the labels, as -100."),
        "assistant_mask" to Reserved("Write it into the labels, as -100."),
        "label" to
            Reserved("Remove the completions that are not wanted: all are trained on.", kinds = listOf("completion"), harmful = listOf("false", "False")),
        "suffix" to Reserved("Write it into the prompt, as the model is to see it.", kinds = listOf("completion")),
        "history" to Reserved("Make messages of it.", kinds = listOf("completion", "messages")),
        "system" to Reserved("Make it the first message, or the beginning of the prompt.", kinds = listOf("completion", "messages")),
        "system_prompt" to Reserved("Make it the first message, or the beginning of the prompt.", kinds = listOf("completion", "messages")),
        "documents" to Reserved("Put them into a message's content.", kinds = listOf("messages")),
        "chat_template" to Reserved("Export the checkpoint with that template.", kinds = listOf("messages")),
        "chat_template_kwargs" to Reserved("Export the checkpoint with a template that does without.", kinds = listOf("messages")),
        "seq_lengths" to Reserved("Make each sequence a row of its own.", kinds = listOf("ids")),
        "seq_idx" to Reserved("Make each sequence a row of its own.", kinds = listOf("ids")),
        "cu_seq_lens_q" to Reserved("Make each sequence a row of its own.", kinds = listOf("ids")),
        "decoder_input_ids" to Reserved("Join them to the input_ids.", kinds = listOf("ids")),
        "inputs_embeds" to Reserved("Only tokens are trained on.", kinds = listOf("ids")),
    )
