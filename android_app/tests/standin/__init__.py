"""An Android phone as far as the real adb client can tell: what the harness's tests drive instead of a device.

    phone.Phone              one phone: its files, its properties, its app, and everything that can go wrong with it
    adb_server.AdbServer     an adb server of the test's own
    newer_adb.NewerAdb       what a later adb adds to it
    adbd.Daemon              the transport, which a test can break
    app.App                  the app's process, which a test can pause, kill and crash

The commands of a phone's shell run as processes of their own, so all that the phone knows is on the disk (state.State).
Nothing is imported here: each command pays for what it imports. Files that have a module's name of mesp.device or mesp.runtime (app, logcat,
phone, contract, outcome) stand in for the same thing on the other side of the cable.
"""
