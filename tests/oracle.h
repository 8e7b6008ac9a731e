/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The oracle of the behaviour tests: the kernel's own pipe. Every test makes
 * the same assertions about pipe(2) or a FIFO and about zpipe, as variants of
 * one fixture. Where zpipe differs on purpose, the test asserts the behaviour
 * of each kind, and a comment that starts with DEVIATION: names the difference.
 *
 * A zpipe variant fails if the devices are missing; it is never skipped.
 */
#ifndef ZPIPE_TESTS_ORACLE_H
#define ZPIPE_TESTS_ORACLE_H

#include "kselftest_harness.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include <linux/zpipe.h>

#define ZPIPE_DEV	"/dev/zpipe"
#define ZPIPE_CONTROL	"/dev/zpipe-control"

#define PAGE		4096
#define SLOTS		16		/* capacity of a new pipe */

/*
 * Limits on a whole test, in seconds, and on waiting for one event, in
 * milliseconds. SLOWER raises both for debug kernels.
 */
#ifndef SLOWER
#define SLOWER		1
#endif
#define TIMEOUT		(40 * SLOWER)
#define EVENT_MS	(15000 * SLOWER)

enum kind {
	PIPE,		/* pipe2(2) */
	FIFO,		/* mkfifo(3) in a directory of its own */
	ZPAIR,		/* ZPIPE_IOC_PIPE2 */
	ZNODE,		/* mknod(2) of /dev/zpipe's numbers, in a directory of its own */
};

static inline bool is_named(enum kind kind)
{
	return kind == FIFO || kind == ZNODE;
}

static inline bool is_zpipe(enum kind kind)
{
	return kind == ZPAIR || kind == ZNODE;
}

/* Converts a result of the C library to the kernel's: -errno for an error. */
static inline long sys(long ret)
{
	return ret < 0 ? -errno : ret;
}

/* One pipe and its two ends. A named pipe has a directory of its own. */
struct ends {
	enum kind kind;
	int fd[2];
	char dir[32];
	char path[48];
};

/* Like pipe2(2), with ZPIPE_IOC_PIPE2 on an open control device. */
static inline int zpipe_pipe2_on(int control, int fd[2], int flags)
{
	struct zpipe_pipe2 arg = { .size = sizeof(arg), .flags = flags };
	int ret = ioctl(control, ZPIPE_IOC_PIPE2, &arg);

	fd[0] = ret ? -1 : arg.fds[0];
	fd[1] = ret ? -1 : arg.fds[1];
	return ret;
}

static inline int zpipe_pipe2(int fd[2], int flags)
{
	int control = open(ZPIPE_CONTROL, O_RDWR | O_CLOEXEC);
	int ret, err;

	if (control < 0)
		return -1;
	ret = zpipe_pipe2_on(control, fd, flags);
	err = errno;
	close(control);
	errno = err;
	return ret;
}

/* Makes a FIFO or a zpipe node at @path. */
static inline int make_node(enum kind kind, const char *path)
{
	struct stat st;

	if (kind == FIFO)
		return mkfifo(path, 0666);
	if (stat(ZPIPE_DEV, &st))
		return -1;
	if (!S_ISCHR(st.st_mode)) {
		errno = ENODEV;
		return -1;
	}
	return mknod(path, S_IFCHR | 0666, st.st_rdev);
}

/* Makes a pipe whose ends are not open yet; 0 or -errno. */
static inline int ends_make(struct ends *e, enum kind kind)
{
	memset(e, 0, sizeof(*e));
	e->kind = kind;
	e->fd[0] = -1;
	e->fd[1] = -1;
	umask(0);
	if (!is_named(kind))
		return 0;
	snprintf(e->dir, sizeof(e->dir), "/tmp/zpipe-test.XXXXXX");
	if (!mkdtemp(e->dir)) {
		e->dir[0] = 0;
		return -errno;
	}
	chmod(e->dir, 0755);
	snprintf(e->path, sizeof(e->path), "%s/pipe", e->dir);
	return sys(make_node(kind, e->path));
}

/*
 * Opens both ends of a named pipe without waiting. @flags are those of open(2).
 * O_DIRECT is set with fcntl(2), because open(2) refuses it for a FIFO.
 */
static inline int open_node(const char *path, int flags, int fd[2])
{
	int direct = flags & O_DIRECT;

	flags &= ~O_DIRECT;
	fd[0] = open(path, O_RDONLY | O_NONBLOCK | flags);
	if (fd[0] < 0)
		return -errno;
	fd[1] = open(path, O_WRONLY | flags);
	if (fd[1] < 0)
		return -errno;
	if (!(flags & O_NONBLOCK) && fcntl(fd[0], F_SETFL, 0))
		return -errno;
	if (direct)
		return sys(fcntl(fd[1], F_SETFL,
				 fcntl(fd[1], F_GETFL) | O_DIRECT));
	return 0;
}

/*
 * Opens both ends of a pipe of any kind. @flags are those of pipe2(2). Returns
 * 0 or -errno.
 */
static inline int open_ends(struct ends *e, int flags)
{
	switch (e->kind) {
	case PIPE:
		return sys(pipe2(e->fd, flags));
	case ZPAIR:
		return sys(zpipe_pipe2(e->fd, flags));
	default:
		return open_node(e->path, flags, e->fd);
	}
}

static inline void close_end(struct ends *e, int end)
{
	if (e->fd[end] >= 0)
		close(e->fd[end]);
	e->fd[end] = -1;
}

static inline void ends_free(struct ends *e)
{
	close_end(e, 0);
	close_end(e, 1);
	if (!e->dir[0])
		return;
	unlink(e->path);
	rmdir(e->dir);
}

/*
 * Sets or gets the capacity in bytes, as F_SETPIPE_SZ and F_GETPIPE_SZ do;
 * -errno for an error.
 */
static inline long set_capacity(enum kind kind, int fd, unsigned long bytes)
{
	struct zpipe_capacity arg = { .size = sizeof(arg), .bytes = bytes };

	if (!is_zpipe(kind))
		return sys(fcntl(fd, F_SETPIPE_SZ, bytes));
	if (ioctl(fd, ZPIPE_IOC_SET_CAPACITY, &arg))
		return -errno;
	return arg.bytes;
}

static inline long get_capacity(enum kind kind, int fd)
{
	struct zpipe_capacity arg = { .size = sizeof(arg) };

	if (!is_zpipe(kind))
		return sys(fcntl(fd, F_GETPIPE_SZ));
	if (ioctl(fd, ZPIPE_IOC_GET_CAPACITY, &arg))
		return -errno;
	return arg.bytes;
}

/* The flags of a zpipe: ZPIPE_BUFFER_ONLY or 0; -errno for an error. */
static inline long get_flags(int fd)
{
	struct zpipe_flags arg = { .size = sizeof(arg) };

	return ioctl(fd, ZPIPE_IOC_GET_FLAGS, &arg) ? -errno : (long)arg.flags;
}

static inline long set_flags(int fd, unsigned int flags)
{
	struct zpipe_flags arg = { .size = sizeof(arg), .flags = flags };

	return sys(ioctl(fd, ZPIPE_IOC_SET_FLAGS, &arg));
}

static inline long fionread(int fd)
{
	int n = -1;

	if (ioctl(fd, FIONREAD, &n))
		return -errno;
	return n;
}

/*
 * The number after @name in a text file with one name and number in a line; -1
 * if it is missing. procfs, sysfs and cgroups have such files. With an empty
 * name, the number at the start of the first line.
 */
static inline long number_in(const char *path, const char *name)
{
	size_t len = strlen(name);
	char line[200];
	long n = -1;
	FILE *f = fopen(path, "r");

	while (f && n < 0 && fgets(line, sizeof(line), f))
		if (!len || (!strncmp(line, name, len) && line[len] &&
			     strchr(" :\t", line[len])))
			n = strtol(line + len + !!len, NULL, 10);
	if (f)
		fclose(f);
	return n;
}

/* Writes @text to the file @name in @dir; 0 or -errno. */
static inline int write_line(const char *dir, const char *name,
			     const char *text)
{
	char path[160];
	int fd, ret;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

static inline bool has_swap(void)
{
	char line[200];
	FILE *f = fopen("/proc/swaps", "r");
	bool swap = f && fgets(line, sizeof(line), f) &&
		    fgets(line, sizeof(line), f);

	if (f)
		fclose(f);
	return swap;
}

/*
 * The number of pages that are pinned in the whole system. The counters of all
 * processors are summed up first.
 */
static inline long pinned_pages(void)
{
	if (write_line("/proc/sys/vm", "stat_refresh", "1"))
		abort();
	return number_in("/proc/vmstat", "nr_foll_pin_acquired") -
	       number_in("/proc/vmstat", "nr_foll_pin_released");
}

/*
 * The memory that is available, in KiB, with the free pages that each processor keeps for
 * itself. MemAvailable lacks those, and they can be tens of MiB after many pages were freed.
 */
static inline long available(void)
{
	long kib = number_in("/proc/meminfo", "MemAvailable");
	FILE *f = fopen("/proc/zoneinfo", "r");
	char line[200];
	long pages;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, " count: %ld", &pages) == 1)
			kib += pages * 4;
	if (f)
		fclose(f);
	return kib;
}

/* A number in the fdinfo of a descriptor, or -1 if it has no such line. */
static inline long fdinfo_number(int fd, const char *name)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	return number_in(path, name);
}

/* The events that poll(2) reports now, without waiting. */
static inline int poll_mask(int fd)
{
	struct pollfd p = {
		.fd = fd,
		.events = POLLIN | POLLOUT | POLLPRI | POLLRDHUP,
	};

	if (poll(&p, 1, 0) < 0)
		return -errno;
	return p.revents;
}

static inline int set_nonblock(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	return sys(fcntl(fd, F_SETFL, flags));
}

/*
 * The byte at offset @off of the stream that tests send. It depends on the
 * offset, so lost, repeated and swapped bytes are found.
 */
static inline unsigned char stream_byte(unsigned long off)
{
	return off * 7 + (off >> 8) * 31 + (off >> 16) * 13 + 1;
}

static inline void stream_fill(void *buf, unsigned long off, size_t len)
{
	unsigned char *p = buf;

	while (len--)
		*p++ = stream_byte(off++);
}

/* The first offset at which @buf differs from the stream at @off, or -1. */
static inline long stream_diff(const void *buf, unsigned long off, size_t len)
{
	const unsigned char *p = buf;
	size_t i;

	for (i = 0; i < len; i++)
		if (p[i] != stream_byte(off + i))
			return i;
	return -1;
}

/* Writes @len bytes of the stream in one call. */
static inline long stream_write(int fd, unsigned long off, size_t len)
{
	void *buf = malloc(len ? len : 1);
	long ret;

	stream_fill(buf, off, len);
	ret = sys(write(fd, buf, len));
	free(buf);
	return ret;
}

/*
 * Reads at most @len bytes in one call; -EILSEQ if they are not the stream's.
 */
static inline long stream_read(int fd, unsigned long off, size_t len)
{
	void *buf = malloc(len ? len : 1);
	long ret;

	/*
	 * Fault the buffer in. A read of zpipe's that faults half-way drops the
	 * inner lock, and may then also return bytes that are written
	 * meanwhile.
	 */
	memset(buf, 0xcc, len);
	ret = sys(read(fd, buf, len));
	if (ret > 0 && stream_diff(buf, off, ret) >= 0)
		ret = -EILSEQ;
	free(buf);
	return ret;
}

/*
 * Maps @good pages that hold the stream, and a hole behind them. The hole is PROT_NONE memory,
 * so that no later mapping can take its addresses.
 */
static inline unsigned char *pages_before_hole(int good)
{
	unsigned char *p = mmap(NULL, (good + 1) * PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + good * PAGE, PAGE, PROT_NONE))
		abort();
	stream_fill(p, 0, good * PAGE);
	return p;
}

/*
 * True if the module was loaded with cut_copies, so that about half of zpipe's
 * copies stop short as a page fault would stop them. A large write then becomes
 * readable in parts, and waiting tasks may pass a task that copies.
 */
static inline bool copies_are_cut(enum kind kind)
{
	struct ends e;
	bool cut;
	int i;

	if (!is_zpipe(kind) || ends_make(&e, ZPAIR) || open_ends(&e, 0))
		return false;
	for (i = 0; i < 64; i++) {
		stream_write(e.fd[1], 0, 100);
		stream_read(e.fd[0], 0, 100);
	}
	cut = fdinfo_number(e.fd[0], "zpipe-write-faults") +
	      fdinfo_number(e.fd[0], "zpipe-read-faults") > 4;
	ends_free(&e);
	return cut;
}

/* The monotonic clock in milliseconds. */
static inline long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/*
 * Waits up to EVENT_MS for a condition, and tests it every millisecond. It
 * tests once more at the end, since evaluating the condition may take long.
 */
#define eventually(cond)						\
({									\
	long __end = now_ms() + EVENT_MS;				\
	bool __ok, __over = false;					\
									\
	while (!(__ok = (cond)) && !__over) {				\
		__over = now_ms() >= __end;				\
		usleep(1000);						\
	}								\
	__ok;								\
})

/* Each program uses only some of the fixtures. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"

/* Pipes of all kinds, with both ends open. */
FIXTURE(all) {
	struct ends e;
};

FIXTURE_VARIANT(all) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(all, pipe) { .kind = PIPE };
FIXTURE_VARIANT_ADD(all, fifo) { .kind = FIFO };
FIXTURE_VARIANT_ADD(all, zpair) { .kind = ZPAIR };
FIXTURE_VARIANT_ADD(all, znode) { .kind = ZNODE };

FIXTURE_SETUP(all)
{
	ASSERT_EQ(0, ends_make(&self->e, variant->kind));
	ASSERT_EQ(0, open_ends(&self->e, 0));
}

FIXTURE_TEARDOWN(all)
{
	ends_free(&self->e);
}

/* Pipes that have a path, with no end open. */
FIXTURE(named) {
	struct ends e;
};

FIXTURE_VARIANT(named) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(named, fifo) { .kind = FIFO };
FIXTURE_VARIANT_ADD(named, node) { .kind = ZNODE };

FIXTURE_SETUP(named)
{
	ASSERT_EQ(0, ends_make(&self->e, variant->kind));
}

FIXTURE_TEARDOWN(named)
{
	ends_free(&self->e);
}

/* Pipes that have no path, with both ends open. */
FIXTURE(unnamed) {
	struct ends e;
};

FIXTURE_VARIANT(unnamed) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(unnamed, pipe) { .kind = PIPE };
FIXTURE_VARIANT_ADD(unnamed, zpair) { .kind = ZPAIR };

FIXTURE_SETUP(unnamed)
{
	ASSERT_EQ(0, ends_make(&self->e, variant->kind));
	ASSERT_EQ(0, open_ends(&self->e, 0));
}

FIXTURE_TEARDOWN(unnamed)
{
	ends_free(&self->e);
}
#pragma GCC diagnostic pop

#endif /* ZPIPE_TESTS_ORACLE_H */
