package org.mesp.core

/** Something failed that the person can be told about: what was wrong, what was expected, what to do. */
open class MespException(message: String, cause: Throwable? = null) : Exception(message, cause)

/** What was given cannot be used: a setting, a bundle, a data file. Nothing was changed. */
class UsageException(message: String, cause: Throwable? = null) : MespException(message, cause)
