package org.mesp.app.screens

import android.app.ActivityManager
import android.app.ApplicationExitInfo
import android.graphics.Bitmap
import android.graphics.Canvas
import android.os.Build
import android.os.PowerManager
import android.view.View
import android.view.View.MeasureSpec.AT_MOST
import android.view.View.MeasureSpec.EXACTLY
import android.view.View.MeasureSpec.makeMeasureSpec
import android.widget.ScrollView
import java.io.File
import kotlinx.serialization.KSerializer
import kotlinx.serialization.json.Json
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.mesp.app.MainActivity
import org.mesp.app.R
import org.mesp.app.TestPhone
import org.mesp.app.state.Answer
import org.mesp.app.state.Field
import org.mesp.app.state.Import
import org.mesp.app.state.Item
import org.mesp.app.state.Kind
import org.mesp.app.state.Pace
import org.mesp.app.state.Place
import org.mesp.app.state.Status
import org.mesp.app.storage.RunRequest
import org.mesp.core.memory.Sample
import org.mesp.core.report.Evaluation
import org.mesp.core.report.Step
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.shadows.ShadowActivityManager.ApplicationExitInfoBuilder
import org.robolectric.shadows.ShadowAlertDialog

/**
 * Draws the screens to PNG files, to look at. The run's numbers are those of a run on the host: SmolLM2-135M learns Hamlet, 60 steps
 * (`make demo`; resources/demo holds its logs, of the memory's the first step of training).
 */
@RunWith(RobolectricTestRunner::class)
@Config(qualifiers = "w411dp-h891dp-420dpi")
class ScreenshotTest {
    private val phone = TestPhone()
    private var activity: MainActivity? = null

    private fun <T> lines(name: String, serializer: KSerializer<T>): List<T> =
        javaClass.getResource("/demo/$name")!!.readText().lines().filter { it.isNotEmpty() }.map { Json.decodeFromString(serializer, it) }

    private fun train(steps: Int) {
        val log = lines("steps.jsonl", Step.serializer())
        phone.trainer.log = { log[it - 1] }
        val trace = lines("memory.jsonl", Sample.serializer())
        phone.trainer.trace = { step -> trace.map { it.copy(seconds = it.seconds * log[step - 1].seconds / log[0].seconds) } }
        phone.trainer.evaluations = lines("eval.jsonl", Evaluation.serializer())
        phone.startRun("2026-11-24_161700") { putExtra("settings", """{"steps": 60}""") }
        phone.trainer.letStep(steps)
        if (steps < 60) phone.awaitInStep(steps + 1) else phone.awaitStatus(Status.DONE)
    }

    private fun end() {
        phone.trainer.letStep(60)
        phone.awaitStatus(Status.DONE)
    }

    private fun draw(name: String, scroll: Int = 0) {
        val activity = activity ?: phone.open().also { activity = it }
        phone.idle()
        val screen = activity.resources.configuration
        val (width, height) = pixels(screen.screenWidthDp) to pixels(screen.screenHeightDp)
        val view = activity.window.decorView
        fun layOut() {
            view.measure(makeMeasureSpec(width, EXACTLY), makeMeasureSpec(height, EXACTLY))
            view.layout(0, 0, width, height)
        }
        layOut()
        for (place in scrolls(view)) {
            place.isVerticalScrollBarEnabled = false // it fades on a phone
            place.scrollTo(0, scroll)
        }
        layOut()
        val picture = Bitmap.createBitmap(width, height, Bitmap.Config.ARGB_8888)
        val canvas = Canvas(picture)
        view.draw(canvas)
        ShadowAlertDialog.getLatestAlertDialog()?.takeIf { it.isShowing }?.let { over(canvas, it.window!!.decorView, width, height) }
        val folder = File(System.getProperty("mesp.screens") ?: "build/screens").apply { mkdirs() }
        folder.resolve("$name.png").outputStream().use { picture.compress(Bitmap.CompressFormat.PNG, 100, it) }
        assertTrue("$name is empty", (0 until height step 9).flatMap { y -> (0 until width step 9).map { picture.getPixel(it, y) } }.toSet().size > 3)
    }

    private fun pixels(dp: Int) = (dp * activity!!.resources.displayMetrics.density).toInt()

    /** A dialog, in a window of its own, over a screen that is dimmed. */
    private fun over(canvas: Canvas, dialog: View, width: Int, height: Int) {
        canvas.drawColor(0x99000000.toInt())
        dialog.measure(makeMeasureSpec(width - pixels(48), EXACTLY), makeMeasureSpec(height, AT_MOST))
        dialog.layout(0, 0, dialog.measuredWidth, dialog.measuredHeight)
        canvas.translate((width - dialog.width) / 2f, (height - dialog.height) / 2f)
        dialog.draw(canvas)
    }

    private fun scrolls(view: View): List<View> =
        when (view) {
            is ScrollView -> listOf(view)
            is android.view.ViewGroup -> (0 until view.childCount).flatMap { scrolls(view.getChildAt(it)) }
            else -> emptyList()
        }

    @Test
    fun setup() {
        phone.addBundle("qwen2.5-0.5b", "Qwen2.5-0.5B-Instruct", 411_800_000)
        phone.app.store.update { it.copy(form = it.form.copy(bundle = "smollm2-135m")) }
        draw("setup")
        draw("setup-below", 10_000)
    }

    @Test
    fun `setup with everything`() {
        killed()
        activity = phone.open()
        activity!!.change { it.with(Field.STEPS, "0").copy(showRare = true) }
        activity!!.start()
        phone.app.store.update { it.copy(message = phone.application.getString(R.string.no_bundle_folder, "Download")) }
        draw("setup-resume")
        phone.app.store.update { it.copy(message = null, importing = Import("qwen2.5-0.5b", 141_000_000, 412_000_000)) }
        draw("setup-import", 700)
        draw("setup-settings", 10_000)
    }

    @Test
    fun empty() {
        phone.app.folders.root.deleteRecursively()
        draw("setup-empty")
    }

    @Test
    fun running() {
        train(42)
        draw("run")
        activity!!.showDetails()
        draw("run-details", 10_000)
        end()
    }

    @Test
    fun `the first step`() {
        train(0)
        draw("run-first")
        end()
    }

    @Test
    fun hot() {
        train(41)
        phone.plug(true, celsius = 43.6)
        phone.warm(PowerManager.THERMAL_STATUS_SEVERE)
        phone.trainer.letStep()
        phone.await("the pause") { phone.run.waiting }
        draw("run-hot")
        phone.plug(true) // either sign of heat is enough
        phone.warm(PowerManager.THERMAL_STATUS_NONE)
        end()
    }

    @Test
    fun done() {
        train(60)
        draw("run-done")
        phone.app.store.update { it.copy(run = null) }
        draw("setup-last")
    }

    @Test
    fun files() {
        train(60)
        phone.addBundle("qwen2.5-0.5b", "Qwen2.5-0.5B-Instruct", 411_800_000)
        File(phone.app.folders.ownData, "chat.jsonl").writeText("{\"text\": \"a\", \"id\": 1}\n")
        phone.app.store.update { it.copy(run = null, form = it.form.copy(bundle = "smollm2-135m", data = "chat.jsonl")) }
        phone.trainer.failure = java.io.IOException("write failed: ENOSPC (No space left on device)")
        phone.startRun("2026-11-25_080000")
        phone.awaitStatus(Status.FAILED)
        phone.app.store.update { it.copy(run = null, place = Place.FILES) }
        phone.app.shelf.refresh()
        draw("files")
        activity!!.askToDelete(Item(Kind.BUNDLE, "qwen2.5-0.5b", 411_800_000))
        draw("files-delete")
        activity!!.answer(Answer.NO)
        activity!!.go(Place.SETUP)
        draw("setup-not-read", 500)
    }

    @Test
    fun battery() {
        phone.app.preferences.paces = mapOf("smollm2-135m" to Pace(2.1, 17.0, 0.01))
        phone.plug(false, percent = 64)
        phone.charge(2_560_000)
        activity = phone.open()
        activity!!.start()
        draw("setup-battery")
        activity!!.answer(Answer.NO)
        train(20)
        phone.charge(2_480_000)
        phone.trainer.letStep()
        phone.awaitInStep(22)
        draw("run-on-battery")
        phone.plug(false, percent = 19)
        phone.idle()
        phone.trainer.letStep()
        phone.await("the pause") { phone.run.waiting }
        draw("run-battery")
        phone.plug(true)
        end()
    }

    @Test
    fun background() {
        assumeTrue(Build.VERSION.SDK_INT >= 30)
        val manager = shadowOf(phone.application.getSystemService(ActivityManager::class.java))
        manager.setBackgroundRestricted(true)
        val end = ApplicationExitInfoBuilder.newBuilder().setReason(ApplicationExitInfo.REASON_SIGNALED)
        manager.addApplicationExitInfo(end.setProcessStateSummary("2026-11-23_090210".toByteArray()).build())
        killed()
        draw("setup-background")
    }

    private fun killed() {
        phone.app.requests.write(RunRequest("bundles/smollm2-135m", "data/hamlet.txt", "2026-11-23_090210"))
        val folder = phone.runFolder("2026-11-23_090210").apply { resolve("checkpoints/step-40").mkdirs() }
        folder.resolve("run.json").writeText("""{"settings": {"steps": 60, "data": "data/hamlet.txt"}, "bundle": {"model": "SmolLM2-135M"}}""")
    }

    @Test
    fun failed() {
        phone.trainer.failure = UnsatisfiedLinkError("dlopen failed: library \"libexecutorch.so\" not found")
        phone.startRun("2026-11-24_161700")
        phone.awaitStatus(Status.FAILED)
        draw("run-failed")
    }

    @Test
    @Config(qualifiers = "+night")
    fun dark() {
        train(42)
        draw("run-dark")
        end()
        phone.app.store.update { it.copy(run = null) }
        draw("setup-dark")
    }

    @Test
    @Config(qualifiers = "w891dp-h411dp-land-420dpi")
    fun landscape() {
        train(42)
        draw("run-land")
        end()
        phone.app.store.update { it.copy(run = null) }
        draw("setup-land")
    }

    @Test
    @Config(qualifiers = "w320dp-h568dp-xhdpi")
    fun narrow() {
        train(60)
        draw("narrow-run-done")
        phone.app.store.update { it.copy(run = null) }
        draw("narrow-setup")
        draw("narrow-setup-below", 10_000)
        activity!!.go(Place.FILES)
        draw("narrow-files")
    }

    @Test
    @Config(qualifiers = "w800dp-h1280dp-hdpi")
    fun wide() {
        train(60)
        draw("wide-run-done")
        phone.app.store.update { it.copy(run = null) }
        draw("wide-setup")
    }

    @Test
    @Config(qualifiers = "w320dp-h568dp-night-xhdpi")
    fun `narrow, dark and large`() {
        RuntimeEnvironment.setFontScale(2f)
        killed()
        draw("worst-setup")
        draw("worst-setup-below", 10_000)
        train(60)
        draw("worst-run-done")
        activity!!.showDetails()
        draw("worst-run-details", 10_000)
        activity!!.newRun()
        activity!!.go(Place.FILES)
        draw("worst-files")
        activity!!.askToDelete(Item(Kind.BUNDLE, "smollm2-135m", 120_000_000))
        draw("worst-delete")
    }

    @Test
    fun `large font`() {
        RuntimeEnvironment.setFontScale(1.5f)
        train(42)
        draw("run-large")
        draw("run-large-below", 10_000)
        end()
        phone.app.store.update { it.copy(run = null) }
        draw("setup-large")
        draw("setup-large-below", 10_000)
    }

    @Test
    fun licences() {
        activity = phone.open()
        activity!!.go(Place.LICENCES)
        draw("licences")
    }
}
