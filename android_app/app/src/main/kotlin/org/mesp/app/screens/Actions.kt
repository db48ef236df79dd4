package org.mesp.app.screens

import org.mesp.app.state.Form

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

    fun closeMessage()

    fun showLicences(show: Boolean)
}
