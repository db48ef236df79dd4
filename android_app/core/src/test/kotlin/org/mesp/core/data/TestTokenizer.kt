package org.mesp.core.data

import java.io.File

/** Writes the folder of a tokenizer without merges: printable ASCII, a character a token, "!" is 33; then space, line feed and BOS, EOS. */
internal fun writeTokenizer(folder: File, chat: String = "null", tokenizer: String? = null, version: Int = 2): File {
    folder.mkdirs()
    val vocabulary = (33..126).associateBy { it.toChar() } + mapOf('Ġ' to 32, 'Ċ' to 10)
    val entries = vocabulary.entries.joinToString(", ") { (character, id) ->
        val spelled = if (character in "\"\\") "\\$character" else character.toString()
        "\"$spelled\": $id"
    }
    val model = "{\"vocab\": {$entries, \"<s>\": 1, \"</s>\": 2}, \"merges\": []}"
    File(folder, "tokenizer.json").writeText("{\"added_tokens\": [], \"model\": $model}")
    val described = tokenizer ?: """{"splits": [" ?[^ ]+|[ ]+"], "letters": "41-5a 61-7a", "spaces": "9-d 20",
        "special": {"<s>": 1, "</s>": 2}, "before": [1], "end": 2}"""
    File(folder, "mobile.json").writeText("{\"format_version\": $version, \"tokenizer\": $described, \"chat\": $chat}")
    return folder
}

/** A template in the manner of ChatML, with a system's turn where the conversation has none, that trims what the user says. */
internal const val CHAT = """{
    "turns": {
        "user": {"before": {"": "<s>S: be kind\nU: ", "assistant": "U: ", "system": "U: "}, "after": "\n", "trim": true},
        "assistant": {"before": {"user": "A: "}, "after": "</s>\n", "trim": false},
        "system": {"before": {"": "<s>S: "}, "after": "\n", "trim": false, "last": false}
    },
    "prompt": "A: ", "skip": 3, "marked": null
}"""
