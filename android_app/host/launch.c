/* A java launcher for Android's arm64 libraries on glibc, under qemu-user.
 *
 * Their code, compiled for bionic, reads its stack guard at TPIDR_EL0 + 40 when it enters and leaves a function. There, glibc has the
 * first thread-local variable of the executable, of which `java` has none and something else changes the words. This launcher is a
 * `java` with constant words in that place, in every thread.
 *
 *     launch JVM/lib/server/libjvm.so OPTION… -- CLASS/NAME ARGUMENT…
 */
#include <dlfcn.h>
#include <jni.h>
#include <stdio.h>
#include <string.h>

enum { MOST_OPTIONS = 32, GUARD_WORDS = 64 };

/* Not zero, so that it comes first, before what starts as zeros. */
__thread volatile long guard[GUARD_WORDS] = {1};

static int fail(const char *what, const char *which) {
    fprintf(stderr, "launch: %s %s\n", what, which);
    return 1;
}

int main(int count, char **words) {
    if (count < 4) return fail("usage:", "launch LIBJVM OPTION... -- CLASS ARGUMENT...");
    void *library = dlopen(words[1], RTLD_NOW | RTLD_GLOBAL);
    if (!library) return fail("no JVM:", dlerror());
    jint (*create)(JavaVM **, void **, void *) = (jint(*)(JavaVM **, void **, void *))dlsym(library, "JNI_CreateJavaVM");
    if (!create) return fail("no JNI_CreateJavaVM in", words[1]);

    JavaVMOption options[MOST_OPTIONS];
    int next = 2, used = 0;
    for (; next < count && strcmp(words[next], "--"); next++) {
        if (used == MOST_OPTIONS) return fail("too many options, from", words[next]);
        options[used++].optionString = words[next];
    }
    if (next + 1 >= count) return fail("no class after", "--");
    JavaVMInitArgs arguments = {JNI_VERSION_1_8, used, options, JNI_FALSE};
    JavaVM *machine;
    JNIEnv *env;
    if (create(&machine, (void **)&env, &arguments)) return fail("the JVM did not start:", words[1]);

    const char *name = words[next + 1];
    jclass class = (*env)->FindClass(env, name);
    jmethodID method = class ? (*env)->GetStaticMethodID(env, class, "main", "([Ljava/lang/String;)V") : NULL;
    if (!method) {
        (*env)->ExceptionDescribe(env);
        return fail("no main in", name);
    }
    int first = next + 2;
    jobjectArray strings = (*env)->NewObjectArray(env, count - first, (*env)->FindClass(env, "java/lang/String"), NULL);
    for (int i = first; i < count; i++) (*env)->SetObjectArrayElement(env, strings, i - first, (*env)->NewStringUTF(env, words[i]));
    (*env)->CallStaticVoidMethod(env, class, method, strings);
    if ((*env)->ExceptionCheck(env)) {
        (*env)->ExceptionDescribe(env);
        return 1;
    }
    return (int)guard[1]; /* 0; and so the words are used, and stay */
}
