package org.mesp.app

import android.graphics.Bitmap
import android.graphics.Canvas
import android.view.View.MeasureSpec.EXACTLY
import android.view.View.MeasureSpec.makeMeasureSpec
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.pytorch.executorch.ExecuTorchRuntime
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment

/** The app as it was built, in Android's own classes on a JVM: it starts, draws its screen, and has its library and what it says of itself. */
@RunWith(RobolectricTestRunner::class)
class StartTest {
    @Test
    fun `starts and draws its screen`() {
        val activity = Robolectric.buildActivity(MainActivity::class.java).setup().get()
        val view = activity.window.decorView
        view.measure(makeMeasureSpec(WIDTH, EXACTLY), makeMeasureSpec(HEIGHT, EXACTLY))
        view.layout(0, 0, WIDTH, HEIGHT)
        val picture = Bitmap.createBitmap(WIDTH, HEIGHT, Bitmap.Config.ARGB_8888)
        view.draw(Canvas(picture))
        val folder = File(System.getProperty("mesp.screens") ?: ".").apply { mkdirs() }
        folder.resolve("start.png").outputStream().use { picture.compress(Bitmap.CompressFormat.PNG, 100, it) }
        val colours = (0 until HEIGHT step 4).flatMap { y -> (0 until WIDTH step 4).map { x -> picture.getPixel(x, y) } }
        assertTrue("the screen is empty", colours.toSet().size > 1)
    }

    @Test
    fun `loads the native library`() {
        ExecuTorchRuntime.getRuntime()
        assertTrue("XnnpackBackend" in ExecuTorchRuntime.getRegisteredBackends())
    }

    @Test
    fun `knows its library and the licences`() {
        val application = RuntimeEnvironment.getApplication()
        assertEquals("org.mesp.app", application.packageName)
        val library = application.assets.open("library.json").reader().readText()
        assertTrue("sha256" in library)
        val licences = application.assets.open("licenses.txt").reader().readText()
        assertTrue("ExecuTorch" in licences && "Apache License" in licences)
    }

    private companion object {
        const val WIDTH = 720
        const val HEIGHT = 1280
    }
}
