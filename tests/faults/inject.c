/* Faults at the writes of a process below one folder: preloaded, armed by fault_arm(), and harmless until then.
 *
 * Every call that changes something below the folder counts: files opened for writing, written, cut or renamed, folders
 * made, files removed. At the call with the number `at`, counted from 1, the action follows, before the call:
 * 1 SIGKILL, 2 SIGTERM, 3 the disk is full from here on, 4 SIGSTOP. 0 only counts.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[4096];
static size_t length;
static long fault_at;
static int action;
static atomic_long count;

void fault_arm(const char *folder, long at, int what) {
    strncpy(root, folder, sizeof root - 1);
    length = strlen(root);
    fault_at = at;
    action = what;
    atomic_store(&count, 0);
}

long fault_count(void) { return atomic_load(&count); }

static int below(const char *path) {
    return length && path && !strncmp(path, root, length) && (path[length] == '/' || !path[length]);
}

static int below_fd(int fd) {
    char link[64], path[4096];
    if (!length) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return below(path);
}

static int below_at(int folder, const char *name) {
    char link[64], path[8192];
    if (!length || !name) return 0;
    if (name[0] == '/') return below(name);
    if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t size = readlink(link, path, 4095);
    if (size < 0) return 0;
    snprintf(path + size, sizeof path - size, "/%s", name);
    return below(path);
}

/* Whether the call must fail, as on a full disk. `grows`: it would take space. */
static int fault(int here, int grows) {
    if (!here) return 0;
    long number = atomic_fetch_add(&count, 1) + 1;
    if (!fault_at || number < fault_at) return 0;
    if (number == fault_at && action == 1) kill(getpid(), SIGKILL);
    if (number == fault_at && action == 2) kill(getpid(), SIGTERM);
    if (number == fault_at && action == 4) kill(getpid(), SIGSTOP);
    if (action == 3 && grows) {
        errno = ENOSPC;
        return 1;
    }
    return 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define MODE(flags)                                                                                                    \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                             \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode = va_arg(rest, mode_t);                                                                                   \
        va_end(rest);                                                                                                  \
    }
#define WRITES(flags) (((flags) & O_ACCMODE) != O_RDONLY)

int open(const char *path, int flags, ...) {
    MODE(flags)
    if (WRITES(flags) && fault(below_at(AT_FDCWD, path), flags & O_CREAT)) return -1;
    return REAL(open)(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags)
    if (WRITES(flags) && fault(below_at(AT_FDCWD, path), flags & O_CREAT)) return -1;
    return REAL(open64)(path, flags, mode);
}
int openat(int folder, const char *path, int flags, ...) {
    MODE(flags)
    if (WRITES(flags) && fault(below_at(folder, path), flags & O_CREAT)) return -1;
    return REAL(openat)(folder, path, flags, mode);
}
int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags)
    if (WRITES(flags) && fault(below_at(folder, path), flags & O_CREAT)) return -1;
    return REAL(openat64)(folder, path, flags, mode);
}
FILE *fopen(const char *path, const char *how) {
    if (strpbrk(how, "wa+") && fault(below_at(AT_FDCWD, path), how[0] != 'r')) return NULL;
    return REAL(fopen)(path, how);
}
FILE *fopen64(const char *path, const char *how) {
    if (strpbrk(how, "wa+") && fault(below_at(AT_FDCWD, path), how[0] != 'r')) return NULL;
    return REAL(fopen64)(path, how);
}
size_t fwrite(const void *data, size_t size, size_t items, FILE *file) {
    if (length && fault(below_fd(fileno(file)), 1)) return 0;
    return REAL(fwrite)(data, size, items, file);
}
ssize_t write(int fd, const void *data, size_t size) {
    if (fault(below_fd(fd), 1)) return -1;
    return REAL(write)(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    if (fault(below_fd(fd), 1)) return -1;
    return REAL(pwrite)(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    if (fault(below_fd(fd), 1)) return -1;
    return REAL(pwrite64)(fd, data, size, at);
}
ssize_t writev(int fd, const struct iovec *parts, int number) {
    if (fault(below_fd(fd), 1)) return -1;
    return REAL(writev)(fd, parts, number);
}
int ftruncate(int fd, off_t size) {
    if (fault(below_fd(fd), size > 0)) return -1;
    return REAL(ftruncate)(fd, size);
}
int ftruncate64(int fd, off64_t size) {
    if (fault(below_fd(fd), size > 0)) return -1;
    return REAL(ftruncate64)(fd, size);
}
int rename(const char *from, const char *to) {
    if (fault(below_at(AT_FDCWD, to), 0)) return -1;
    return REAL(rename)(from, to);
}
int renameat(int from_folder, const char *from, int folder, const char *to) {
    if (fault(below_at(folder, to), 0)) return -1;
    return REAL(renameat)(from_folder, from, folder, to);
}
int unlink(const char *path) {
    if (fault(below_at(AT_FDCWD, path), 0)) return -1;
    return REAL(unlink)(path);
}
int unlinkat(int folder, const char *path, int flags) {
    if (fault(below_at(folder, path), 0)) return -1;
    return REAL(unlinkat)(folder, path, flags);
}
int mkdir(const char *path, mode_t mode) {
    if (fault(below_at(AT_FDCWD, path), 1)) return -1;
    return REAL(mkdir)(path, mode);
}
