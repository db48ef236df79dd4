package org.mesp.app.screens

import android.text.Editable
import android.text.InputType
import android.text.TextWatcher
import android.view.LayoutInflater
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.EditText
import android.widget.RadioButton
import android.widget.RadioGroup
import android.widget.Switch
import android.widget.TextView
import org.mesp.app.R
import org.mesp.app.state.Field
import org.mesp.app.state.Form
import org.mesp.app.state.Problems
import org.mesp.app.state.TypedNumber
import org.mesp.core.training.TrainSettings

/** The settings of a run. */
class SettingsView(view: View, private val actions: Actions) {
    private val context = view.context
    private val numbers = TypedNumber(context.resources.configuration.locales[0])
    private val optimizers =
        segments(view.findViewById(R.id.optimizer), TrainSettings.OPTIMIZERS.keys) { actions.change { form -> form.copy(optimizer = it) } }
    private val schedules =
        segments(view.findViewById(R.id.schedule), TrainSettings.SCHEDULES) { actions.change { form -> form.copy(schedule = it) } }
    private val rows =
        Field.entries.associateWith { NumberRow(it, view.findViewById(if (it.rare) R.id.rare_fields else R.id.fields), actions) }
    private val charging: Switch = view.findViewById(R.id.only_while_charging)
    private val findThreads: Switch = view.findViewById(R.id.find_threads)
    private val more: Button = view.findViewById(R.id.more)
    private val rare: View = view.findViewById(R.id.rare)

    init {
        charging.setOnClickListener { actions.change { it.copy(onlyWhileCharging = charging.isChecked) } }
        findThreads.setOnClickListener { actions.change { it.copy(findThreads = findThreads.isChecked) } }
        more.setOnClickListener { actions.change { it.copy(showRare = !it.showRare) } }
    }

    fun render(form: Form, problems: Problems) {
        for ((field, row) in rows) row.render(form.values[field].orEmpty(), problems.fields[field])
        rows.getValue(Field.RATE).number.hint = TrainSettings.OPTIMIZERS[form.optimizer]?.let(numbers::text)
        for ((name, button) in optimizers) button.isChecked = name == form.optimizer
        for ((name, button) in schedules) button.isChecked = name == form.schedule
        charging.isChecked = form.onlyWhileCharging
        findThreads.isChecked = form.findThreads
        // A mistake must be seen.
        val unfolded = form.showRare || problems.fields.keys.any { it.rare }
        rare.show(unfolded)
        more.unfold(unfolded, R.string.more_settings, R.string.fewer_settings)
    }

    private fun segments(group: RadioGroup, names: Collection<String>, choose: (String) -> Unit): Map<String, RadioButton> {
        // Side by side, large letters would not fit.
        if (context.resources.configuration.fontScale > 1.6f) group.orientation = RadioGroup.VERTICAL
        return names.associateWith { name ->
            val button = LayoutInflater.from(context).inflate(R.layout.row_segment, group, false) as RadioButton
            button.id = View.generateViewId()
            button.text = NAMES[name]?.let(context::getString) ?: name
            button.setOnClickListener { choose(name) }
            val place = button.layoutParams as ViewGroup.MarginLayoutParams
            if (group.orientation == RadioGroup.VERTICAL) place.width = ViewGroup.LayoutParams.MATCH_PARENT
            if (group.childCount > 0) {
                val gap = (8 * context.resources.displayMetrics.density).toInt()
                if (group.orientation == RadioGroup.VERTICAL) place.topMargin = gap else place.marginStart = gap
            }
            group.addView(button)
            button
        }
    }

    private companion object {
        val NAMES =
            mapOf(
                "sgd" to R.string.sgd,
                "adamw" to R.string.adamw,
                "constant" to R.string.constant,
                "linear" to R.string.linear,
                "cosine" to R.string.cosine,
            )
    }
}

/** A setting that is a number: its name, the field it is typed into, and what is wrong with it. */
class NumberRow(field: Field, list: ViewGroup, actions: Actions) {
    private val view = LayoutInflater.from(list.context).inflate(R.layout.row_number, list, false)
    private val problem: TextView = view.findViewById(R.id.problem)
    val number: EditText = view.findViewById(R.id.number)
    private var rendering = false

    init {
        val label: TextView = view.findViewById(R.id.label)
        label.setText(field.label)
        number.id = View.generateViewId()
        label.labelFor = number.id
        number.setHint(field.hint)
        view.findViewById<TextView>(R.id.field_about).say(field.about?.let(list.context::getString))
        // Raw: a number field's own filter lets pass ASCII digits and one kind of point alone. A keypad has no "e", which "1e-4" needs.
        number.setRawInputType(if (field.whole) InputType.TYPE_CLASS_NUMBER else InputType.TYPE_CLASS_TEXT or InputType.TYPE_TEXT_FLAG_NO_SUGGESTIONS)
        number.addTextChangedListener(
            object : TextWatcher {
                override fun afterTextChanged(text: Editable) {
                    if (!rendering) actions.change { it.with(field, text.toString()) }
                }

                override fun beforeTextChanged(text: CharSequence, start: Int, count: Int, after: Int) = Unit

                override fun onTextChanged(text: CharSequence, start: Int, before: Int, count: Int) = Unit
            }
        )
        list.addView(view)
    }

    fun render(text: String, wrong: String?) {
        // Not while the person types: the state then comes from this field, and lags behind.
        if (number.text.toString() != text && !number.isFocused) {
            rendering = true
            number.setText(text)
            rendering = false
        }
        problem.say(wrong)
        number.isActivated = wrong != null
    }
}
