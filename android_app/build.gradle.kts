plugins {
    id("com.android.application") version "8.13.0" apply false
    kotlin("jvm") version "2.4.21" apply false
    kotlin("android") version "2.4.21" apply false
    kotlin("plugin.serialization") version "2.4.21" apply false
}
