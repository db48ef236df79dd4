package org.mesp.app.screens

import android.graphics.Bitmap
import android.graphics.Canvas
import android.os.PowerManager
import android.view.View
import android.view.View.MeasureSpec.EXACTLY
import android.view.View.MeasureSpec.makeMeasureSpec
import android.widget.ScrollView
import java.io.File
import kotlinx.serialization.KSerializer
import kotlinx.serialization.json.Json
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.mesp.app.MainActivity
import org.mesp.app.R
import org.mesp.app.TestPhone
import org.mesp.app.state.Field
import org.mesp.app.state.Import
import org.mesp.app.state.Place
import org.mesp.app.state.Status
import org.mesp.app.storage.RunRequest
import org.mesp.core.memory.Sample
import org.mesp.core.report.Evaluation
import org.mesp.core.report.Step
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.annotation.Config

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
        phone.await("the end") { phone.run.status.ended }
    }

    private fun draw(name: String, scroll: Int = 0) {
        val activity = activity ?: phone.open().also { activity = it }
        phone.idle()
        val land = RuntimeEnvironment.getQualifiers().contains("-land")
        val (width, height) = if (land) 2340 to 1080 else 1080 to 2340
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
        view.draw(Canvas(picture))
        val folder = File(System.getProperty("mesp.screens") ?: "build/screens").apply { mkdirs() }
        folder.resolve("$name.png").outputStream().use { picture.compress(Bitmap.CompressFormat.PNG, 100, it) }
        assertTrue("$name is empty", (0 until height step 9).flatMap { y -> (0 until width step 9).map { picture.getPixel(it, y) } }.toSet().size > 3)
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
        phone.app.requests.write(RunRequest("bundles/smollm2-135m", "data/hamlet.txt", "2026-11-23_090210"))
        val folder = phone.runFolder("2026-11-23_090210").apply { resolve("checkpoints/step-40").mkdirs() }
        folder.resolve("run.json").writeText("""{"settings": {"steps": 60}}""")
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
        draw("run-below", 10_000)
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
        phone.power.setCurrentThermalStatus(PowerManager.THERMAL_STATUS_SEVERE)
        phone.trainer.letStep()
        phone.await("the pause") { phone.run.waiting }
        draw("run-hot")
        phone.power.setCurrentThermalStatus(PowerManager.THERMAL_STATUS_NONE)
        end()
    }

    @Test
    fun done() {
        train(60)
        draw("run-done")
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
