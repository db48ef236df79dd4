package org.mesp.app.service

import android.app.ForegroundServiceStartNotAllowedException
import android.app.Notification
import android.app.Service
import org.robolectric.annotation.Implementation
import org.robolectric.annotation.Implements
import org.robolectric.shadows.ShadowService

/** A service that Android does not let into the foreground. */
@Implements(Service::class)
class RefusingService : ShadowService() {
    @Implementation
    override fun startForeground(id: Int, notification: Notification): Unit =
        throw ForegroundServiceStartNotAllowedException("Service.startForeground() not allowed: $id ${notification.channelId}")
}
