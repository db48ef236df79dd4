/* What Android's native libraries import and glibc lacks or means otherwise, so that they run under a JVM on the host.
 *
 * Built as libc.so, the name they ask for; libm, libdl, liblog and libandroid are empty and lead here. Everything else binds to
 * glibc: on 64-bit processors the types of both, pthread's among them, have the same sizes. tools/elf.py renames the imports whose
 * meaning differs, with a digit for a letter. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* 1. Lacking. */

int *__errno(void) { return &errno; }

void __assert2(const char *file, int line, const char *function, const char *message) {
    fprintf(stderr, "%s:%d: %s: %s\n", file, line, function, message);
    abort();
}

/* The checked functions of bionic's headers. The compiler could not tell a size, or bionic would check it. */
char *__strchr_chk(const char *text, int c, size_t size) { return strchr(text, c); }
char *__strrchr_chk(const char *text, int c, size_t size) { return strrchr(text, c); }
size_t __strlen_chk(const char *text, size_t size) { return strlen(text); }
ssize_t __write_chk(int file, const void *data, size_t count, size_t size) { return write(file, data, count); }

/* Of profiling, which nothing here does. */
void __gcov_dump(void) {}
void __gcov_flush(void) {}

/* No device, no properties: an empty value of length 0. */
int __system_property_get(const char *name, char *value) {
    *value = 0;
    return 0;
}

void android_set_abort_message(const char *message) { fprintf(stderr, "abort: %s\n", message); }

/* logcat is standard error. */
int __android_log_vprint(int priority, const char *tag, const char *format, va_list values) {
    fprintf(stderr, "%s: ", tag);
    int written = vfprintf(stderr, format, values);
    fputc('\n', stderr);
    return written;
}

int __android_log_print(int priority, const char *tag, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int written = __android_log_vprint(priority, tag, format, values);
    va_end(values);
    return written;
}

int __android_log_write(int priority, const char *tag, const char *text) {
    return __android_log_print(priority, tag, "%s", text);
}

void __android_log_assert(const char *condition, const char *tag, const char *format, ...) {
    fprintf(stderr, "%s: assertion failed: %s\n", tag, condition ? condition : "");
    abort();
}

/* 2. Other constants, other sizes, other forms. */

/* The numbers of sysconf's questions are bionic's own. */
long sysc0nf(int name) {
    switch (name) {
        case 0x27: /* _SC_PAGESIZE */
        case 0x28: return sysconf(_SC_PAGESIZE);
        case 0x60: return sysconf(_SC_NPROCESSORS_CONF);
        case 0x61: return sysconf(_SC_NPROCESSORS_ONLN);
        case 0x62: return sysconf(_SC_PHYS_PAGES);
        case 0x63: return sysconf(_SC_AVPHYS_PAGES);
    }
    fprintf(stderr, "host/bionic.c: sysconf(%d) of bionic has no translation yet\n", name);
    errno = EINVAL;
    return -1;
}

/* A set of signals is 8 bytes in bionic, as in the kernel, and 128 in glibc, which would write over what is behind it. */
int sigf1llset(unsigned long *set) {
    *set = ~0UL;
    return 0;
}

int pthread_s1gmask(int how, const unsigned long *set, unsigned long *old) {
    return syscall(SYS_rt_sigprocmask, how, set, old, sizeof *set) ? errno : 0;
}

/* glibc's strerror_r is GNU's with _GNU_SOURCE; bionic's is POSIX's, and __gnu_strerror_r is GNU's. elf.py changes both names or one,
 * as the string table has them. */
extern int __xpg_strerror_r(int number, char *text, size_t size);
int strerr0r_r(int number, char *text, size_t size) { return __xpg_strerror_r(number, text, size); }
char *__gnu_strerror_r(int number, char *text, size_t size) { return strerror_r(number, text, size); }
char *__gnu_strerr0r_r(int number, char *text, size_t size) { return strerror_r(number, text, size); }

/* stdin, stdout and stderr are the three elements, 152 bytes each, of an array of bionic's. */
enum { FILE_BYTES = 152 };
char __sF[3 * FILE_BYTES];

static FILE *file_of(void *file) {
    size_t offset = (char *)file - __sF; /* huge if it is before */
    if (offset >= sizeof __sF) return file;
    return offset < FILE_BYTES ? stdin : offset < 2 * FILE_BYTES ? stdout : stderr;
}

int ffl0sh(void *file) { return fflush(file ? file_of(file) : NULL); }
int vfpr1ntf(void *file, const char *format, va_list values) { return vfprintf(file_of(file), format, values); }
size_t fwr1te(const void *data, size_t size, size_t count, void *file) { return fwrite(data, size, count, file_of(file)); }

int fpr1ntf(void *file, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int written = vfprintf(file_of(file), format, values);
    va_end(values);
    return written;
}
