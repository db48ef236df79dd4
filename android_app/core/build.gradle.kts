plugins {
    kotlin("jvm")
    kotlin("plugin.serialization")
}

kotlin {
    jvmToolchain(17)
}

// ExecuTorch's classes alone, out of its AAR: core is plain JVM code, and the app brings the library.
val executorch: Configuration by configurations.creating { isTransitive = false }
val unpackExecutorch by tasks.registering(Copy::class) {
    from(provider { executorch.map { zipTree(it) } }) { include("classes.jar") }
    into(layout.buildDirectory.dir("executorch"))
}
val executorchClasses = files(layout.buildDirectory.file("executorch/classes.jar")) { builtBy(unpackExecutorch) }

dependencies {
    executorch("org.pytorch:executorch-android:1.5.1@aar")
    compileOnly(executorchClasses)
    compileOnly("com.facebook.fbjni:fbjni-java-only:0.7.0")
    implementation("org.jetbrains.kotlinx:kotlinx-serialization-json-jvm:1.11.0")
    // Its tests need the library on the host, which only the poms give them: `make test-android`.
}
