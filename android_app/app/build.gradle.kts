plugins {
    id("com.android.application")
    kotlin("android")
    kotlin("plugin.serialization")
}

android {
    namespace = "org.mesp.app"
    compileSdk = 35

    defaultConfig {
        applicationId = "org.mesp.app"
        minSdk = 26
        targetSdk = 35
        versionCode = 1
        versionName = "0.1.0"
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    buildTypes {
        release {
            isMinifyEnabled = true
            proguardFiles("../keep.pro")
        }
    }

    packaging {
        jniLibs.useLegacyPackaging = true // compressed in the APK, as `make apk` has them
    }

    // library.json and licenses.txt: `python3 tools/apk.py resources` makes them, for the library of the poms. Set library.json right
    // where Gradle takes another one.
    sourceSets["main"].assets.srcDir("../../build/android/resources/assets")
}

kotlin {
    jvmToolchain(17)
}

dependencies {
    implementation(project(":core"))
    implementation("org.pytorch:executorch-android:1.5.1")
    implementation("com.facebook.fbjni:fbjni:0.7.0")
    implementation("com.facebook.soloader:nativeloader:0.10.5")
    implementation("org.jetbrains.kotlinx:kotlinx-serialization-json-jvm:1.11.0")
}
