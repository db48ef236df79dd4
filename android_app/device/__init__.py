"""The harness: takes a bundle to a phone, fine-tunes it there by the app, and brings back what the phone's memory did.

    adb            the platform's adb client: commands on a phone, files to and from it, and what a lost connection is
    listing        what adb lists, and the ways in which a phone is connected
    app            the app on a phone: its folders, its installation, its start and commands
    phone_data     rows, looked at before they are sent
    transfer       bundles, data and run folders, to the phone and back
    logcat         the app's log, followed through lost connections
    run_files      a run as its files tell it, where the log does not
    follow         a run on the phone, watched to its end
    status         what goes on on a phone
    run_progress   what the person sees of it meanwhile
    outside        samples of the app's memory from outside of it
    verdict        how a run ended, and whether inside and outside saw the same memory
    phone          what a phone is: model, Android, memory, storage, warmth
    dumpsys        what Android's services print, parsed; meminfo: of it dumpsys meminfo
    kernel_files   what the kernel's files in /proc, getprop and df say, parsed
    reading        numbers as a phone's language writes them, and output that is not understood

The commands ``mesp device …`` are in mesp/command_line: device, device_commands, device_train and device_status. A run's folder,
device.json and the app's events follow runtime/contract.

Why adb as a program, and not a Python client of its server: everybody with a phone has it, from Android Studio or a package, and only it pairs,
authorizes, starts and replaces servers, and installs as this phone's Android wants it. The best kept client, adbutils (2.12), speaks to the
same server, so needs the same program for it; it sends files in pieces of 4 KB, does not tell a shell's errors from its output, and brings
requests and Pillow along. A process a call costs some milliseconds, of which there is one a second.
"""
