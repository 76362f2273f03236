/* A disk that fails when told to. Preloaded into the binary, it stands before libc's storage calls and counts those that
 * touch files below FAULTY_DIR, for all threads and child processes together, in the file FAULTY_PLAN, which both sides
 * have mapped: see faulty_disk.rs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A block of a file, and the unit of what is read. */
#define BLOCK 4096

enum call { WRITE, SYNC, SIZE, OPEN, NAME, READ, CALLS };

/* The calls from `first` to `last` of a kind fail with `error`. With `part` a write does half its work and says so, and
 * only the call after it fails, if there is an error. */
static struct plan {
    _Atomic uint64_t call, first, last, error, part, failed, counts[CALLS];
} *plan;
static char dir[PATH_MAX];

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("FAULTY_PLAN"), *below = getenv("FAULTY_DIR");
    if (!file || !below) return;
    int fd = syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC);
    void *map = mmap(0, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || map == MAP_FAILED) abort();
    close(fd);
    snprintf(dir, sizeof dir, "%s", below);
    plan = map;
}

static int path_is_ours(const char *path) { return plan && strncmp(path, dir, strlen(dir)) == 0; }

static const char *path_of(int fd, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return path;
}
static int is_ours(int fd) {
    char path[PATH_MAX];
    return plan && path_is_ours(path_of(fd, path));
}
static int is_database(int fd) {
    char path[PATH_MAX];
    const char *name = strrchr(path_of(fd, path), '/');
    return name && strcmp(name, "/db") == 0;
}

/* Counts a call; true if it is to fail, with errno set. `*part` is set when it is to do half. */
static int fails(int ours, enum call call, int *part) {
    int before = errno;
    if (!ours) return 0;
    uint64_t number = ++plan->counts[call];
    if (call != plan->call || number < plan->first || number > plan->last) return errno = before, 0;
    plan->failed++;
    if (part && plan->part) {
        /* The plan is for one write then: the error is for the one that goes on with the rest. */
        plan->part = 0;
        if (plan->error) plan->first = plan->last = number + 1;
        return *part = 1, 0;
    }
    return errno = plan->error, 1;
}

static size_t half(size_t size, int part) { return part && size > 1 ? size / 2 : size; }

#define TRY(ours, call) if (fails(ours, call, 0)) return -1

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
    int part = 0;
    if (fails(is_ours(fd), WRITE, &part)) return -1;
    return syscall(SYS_pwrite64, fd, bytes, half(size, part), at);
}
ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) { return pwrite64(fd, bytes, size, at); }
ssize_t write(int fd, const void *bytes, size_t size) {
    int part = 0;
    if (fails(is_ours(fd), WRITE, &part)) return -1;
    return syscall(SYS_write, fd, bytes, half(size, part));
}

int fsync(int fd) { TRY(is_ours(fd), SYNC); return syscall(SYS_fsync, fd); }
int fdatasync(int fd) { TRY(is_ours(fd), SYNC); return syscall(SYS_fdatasync, fd); }
int sync_file_range(int fd, off64_t at, off64_t size, unsigned flags) {
    TRY(is_ours(fd), SYNC);
    return syscall(SYS_sync_file_range, fd, at, size, flags);
}

int ftruncate64(int fd, off64_t size) { TRY(is_ours(fd), SIZE); return syscall(SYS_ftruncate, fd, size); }
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }
int fallocate64(int fd, int mode, off64_t at, off64_t size) {
    TRY(is_ours(fd), SIZE);
    return syscall(SYS_fallocate, fd, mode, at, size);
}
int fallocate(int fd, int mode, off_t at, off_t size) { return fallocate64(fd, mode, at, size); }
int posix_fallocate64(int fd, off64_t at, off64_t size) { return fallocate64(fd, 0, at, size) ? errno : 0; }
int posix_fallocate(int fd, off_t at, off_t size) { return posix_fallocate64(fd, at, size); }

static int open_at(int at, const char *path, int flags, int mode) {
    TRY(path_is_ours(path) || (at >= 0 && *path != '/' && is_ours(at)), OPEN);
    return syscall(SYS_openat, at, path, flags, mode);
}
#define MODE(last) va_list more; va_start(more, last); int mode = va_arg(more, int); va_end(more)
int open64(const char *path, int flags, ...) { MODE(flags); return open_at(AT_FDCWD, path, flags, mode); }
int open(const char *path, int flags, ...) { MODE(flags); return open_at(AT_FDCWD, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags); return open_at(at, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags); return open_at(at, path, flags, mode); }

int rename(const char *from, const char *to) {
    TRY(path_is_ours(from), NAME);
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int unlink(const char *path) { TRY(path_is_ours(path), NAME); return syscall(SYS_unlinkat, AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) {
    TRY(path_is_ours(path) || (at >= 0 && is_ours(at)), NAME);
    return syscall(SYS_unlinkat, at, path, flags);
}
int mkdir(const char *path, mode_t mode) {
    TRY(path_is_ours(path), NAME);
    return syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

/* Of reads the places count, not the calls: a bad block of the database is bad whoever reads it. */
static int is_bad(int fd, size_t size, off64_t at) {
    if (!size || !is_ours(fd) || !is_database(fd)) return 0;
    uint64_t from = at / BLOCK + 1, to = (at + size - 1) / BLOCK + 1;
    if (to > plan->counts[READ]) plan->counts[READ] = to;
    if (plan->call != READ || to < plan->first || from > plan->last) return 0;
    plan->failed++;
    return errno = plan->error, 1;
}
ssize_t pread64(int fd, void *bytes, size_t size, off64_t at) {
    return is_bad(fd, size, at) ? -1 : syscall(SYS_pread64, fd, bytes, size, at);
}
ssize_t pread(int fd, void *bytes, size_t size, off_t at) { return pread64(fd, bytes, size, at); }
ssize_t read(int fd, void *bytes, size_t size) {
    if (plan && is_ours(fd) && is_bad(fd, size, syscall(SYS_lseek, fd, 0, SEEK_CUR))) return -1;
    return syscall(SYS_read, fd, bytes, size);
}
