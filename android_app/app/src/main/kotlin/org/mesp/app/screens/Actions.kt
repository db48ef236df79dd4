package org.mesp.app.screens

import org.mesp.app.state.Answer
import org.mesp.app.state.Form
import org.mesp.app.state.Item
import org.mesp.app.state.Place

/** What a person can do on the screens. */
interface Actions {
    fun pickBundleFolder()

    fun pickBundleZip()

    fun pickData()

    fun cancelImport()

    fun change(form: (Form) -> Form)

    fun start()

    fun resume(run: String)

    fun forget(run: String)

    fun pause()

    fun goOn()

    fun stop()

    fun newRun()

    /** Saves a run's result where the person chooses. */
    fun save(run: String)

    fun share(run: String)

    /** Shows a run of before. */
    fun open(run: String)

    fun askToDelete(item: Item)

    /** What the person answered to the question that is asked. */
    fun answer(answer: Answer)

    /** Where the phone lets the app run in the background. */
    fun openBackgroundSettings()

    fun showDetails()

    fun go(place: Place)

    fun back()

    fun closeMessage()
}
