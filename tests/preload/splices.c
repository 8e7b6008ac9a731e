// SPDX-License-Identifier: GPL-2.0-only
/*
 * splice(2), tee(2), sendfile(2), copy_file_range(2) and vmsplice(2) between files of all
 * kinds. tests/preload.sh runs this program without libzpipe_preload.so and with it.
 *
 * A scenario runs twice: with a pipe of the kernel, which this program makes with the system
 * call, and with one that pipe2(3) makes. With the library that is a zpipe. The scenario logs
 * all that it sees, and both logs must be the same. Where they are not, a comment starting
 * with DIFFERENCE: names the difference, which docs/zpipe-preload.7 lists.
 */
#include "kselftest_harness.h"

#include "preload.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <net/if.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>

#ifndef SLOWER
#define SLOWER		1
#endif
#define TIMEOUT		(120 * SLOWER)
#define ENTRIES		512
/* A call that waits longer than this, in milliseconds, is interrupted. */
#define TOO_LONG	(2000 * SLOWER)
#define SOON		(100 * SLOWER)

struct log {
	bool kernel;
	int entries;
	const char *what[ENTRIES];
	long value[ENTRIES];
};

typedef void scenario(struct log *log, const void *arg);

static void note(struct log *log, const char *what, long value)
{
	if (log->entries == ENTRIES)
		abort();
	log->what[log->entries] = what;
	log->value[log->entries++] = value;
}

/* Logs a call. If it waits too long, a signal ends it. */
#define NOTE(call)						\
	do {							\
		alarm_after(TOO_LONG);				\
		note(log, #call, sys(call));			\
		alarm_after(0);					\
		note(log, #call ", signals", alarms);		\
	} while (0)

static int sigpipes, alarms;

static void count_alarm(int sig)
{
	alarms++;
}

static void count_sigpipe(int sig)
{
	sigpipes++;
}

static void alarm_after(int ms)
{
	struct itimerval timer = {
		.it_value = { ms / 1000, ms % 1000 * 1000 },
	};

	setitimer(ITIMER_REAL, &timer, NULL);
}

static void handle_alarm(int flags)
{
	struct sigaction sa = { .sa_handler = count_alarm, .sa_flags = flags };

	sigaction(SIGALRM, &sa, NULL);
}

/* Runs a scenario twice and prints where the logs differ. Returns true if they do not. */
static bool same(scenario *run, const void *arg, const char *name)
{
	static struct log logs[2];
	struct sigaction sa = { .sa_handler = count_sigpipe };
	int i, first;

	sigaction(SIGPIPE, &sa, NULL);
	for (i = 0; i < 2; i++) {
		logs[i].kernel = i == 0;
		logs[i].entries = 0;
		sigpipes = 0;
		alarms = 0;
		handle_alarm(0);
		/* The lowest free descriptor: all above it are the scenario's. */
		first = open("/dev/null", O_RDONLY);
		run(&logs[i], arg);
		note(&logs[i], "SIGPIPEs", sigpipes);
		close_range(first, ~0U, 0);
	}
	for (i = 0; i < logs[0].entries && i < logs[1].entries; i++) {
		if (logs[0].value[i] == logs[1].value[i])
			continue;
		printf("# %s: entry %d, %s: %ld with the kernel's pipe, %ld with pipe2()\n", name,
		       i, logs[0].what[i], logs[0].value[i], logs[1].value[i]);
		return false;
	}
	return logs[0].entries == logs[1].entries;
}

static void make_pipe(struct log *log, int fd[2], int flags)
{
	if (log->kernel ? syscall(SYS_pipe2, fd, flags) : pipe2(fd, flags))
		abort();
	if (!log->kernel && zpipe_expected() && file_system(fd[0]) != ZPIPE_SUPER_MAGIC)
		abort();
}

static int again(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags);
}

static char stream[2 * FULL] __attribute__((aligned(PAGE))), buf[4 * FULL];

/* Writes bytes of the stream, from its start. */
static void fill(int fd, long bytes)
{
	long i;

	for (i = 0; i < bytes; i++)
		stream[i] = byte_at(i);
	if (write(fd, stream, bytes) != bytes)
		abort();
}

static long sum(const char *bytes, long len)
{
	unsigned long hash = 14695981039346656037UL;

	while (len-- > 0)
		hash = (hash ^ (unsigned char)*bytes++) * 1099511628211UL;
	return hash >> 1;
}

/* Reads and logs all that a pipe holds. */
static void note_pipe(struct log *log, int fd)
{
	int bytes = buffered(fd), got = 0;

	note(log, "bytes in the pipe", bytes);
	while (got < bytes) {
		ssize_t ret = read(fd, buf + got, bytes - got);

		if (ret <= 0)
			break;
		got += ret;
	}
	note(log, "bytes read", got);
	note(log, "sum of the pipe", sum(buf, got));
}

enum kind { OURS, KERNEL, FILE_OF_DISK, MEMFD, UNIX, TCP, ZERO, NUL, KINDS };

static const char *const names[KINDS] = {
	"pipe2()", "kernel's pipe", "file", "memfd", "UNIX socket", "TCP socket", "/dev/zero",
	"/dev/null",
};

static bool is_stored(enum kind kind)
{
	return kind == FILE_OF_DISK || kind == MEMFD;
}

static void tcp_pair(int fd[2])
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	/* In the guest, nobody else does it. */
	ioctl(listener, SIOCSIFFLAGS, &lo);
	fd[1] = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (void *)&addr, len) || listen(listener, 1) ||
	    getsockname(listener, (void *)&addr, &len) || connect(fd[1], (void *)&addr, len))
		abort();
	fd[0] = accept(listener, NULL, NULL);
	close(listener);
}

static int stored(enum kind kind)
{
	char path[] = "/tmp/splices-XXXXXX";
	int fd;

	if (kind == MEMFD)
		return memfd_create("splices", 0);
	fd = mkstemp(path);
	unlink(path);
	return fd;
}

/* Opens files of a kind: @fd[0] to read from, @fd[1] to write to, what is written first. */
static void open_kind(struct log *log, enum kind kind, int fd[2])
{
	switch (kind) {
	case OURS:
		make_pipe(log, fd, 0);
		break;
	case KERNEL:
		if (syscall(SYS_pipe2, fd, 0))
			abort();
		break;
	case FILE_OF_DISK:
	case MEMFD:
		fd[0] = stored(kind);
		fd[1] = fd[0];
		break;
	case UNIX:
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd))
			abort();
		break;
	case TCP:
		tcp_pair(fd);
		break;
	default:
		fd[0] = open(names[kind], O_RDWR);
		fd[1] = fd[0];
		break;
	}
	if (fd[0] < 0 || fd[1] < 0)
		abort();
}

/* Waits until a socket has received so many bytes. */
static void wait_for(int fd, int bytes)
{
	int tries;

	for (tries = 0; buffered(fd) < bytes && tries < 2000; tries++)
		usleep(1000);
}

#define HELD	10000

struct transfer {
	enum { SPLICE, TEE, SENDFILE, COPY_FILE_RANGE, OPS } op;
	enum kind from, to;
	size_t len;
	unsigned int flags;
	bool off_from, off_to;
};

static void transfer(struct log *log, const void *arg)
{
	const struct transfer *t = arg;
	int from[2], to[2];
	off64_t at = 100, out = 50, *off_from = t->off_from ? &at : NULL;
	off64_t *off_to = t->off_to ? &out : NULL;
	long ret = -1;

	open_kind(log, t->from, from);
	open_kind(log, t->to, to);
	if (t->from < ZERO)
		fill(from[1], HELD);
	if (t->from == UNIX || t->from == TCP)
		wait_for(from[0], HELD);
	if (is_stored(t->from))
		lseek(from[0], 0, SEEK_SET);
	if (is_stored(t->to))
		lseek(to[1], 10, SEEK_SET);

	alarm_after(TOO_LONG);
	switch (t->op) {
	case SPLICE:
		ret = splice(from[0], off_from, to[1], off_to, t->len, t->flags);
		break;
	case TEE:
		ret = tee(from[0], to[1], t->len, t->flags);
		break;
	case SENDFILE:
		ret = sendfile(to[1], from[0], off_from, t->len);
		break;
	default:
		ret = copy_file_range(from[0], off_from, to[1], off_to, t->len, 0);
		break;
	}
	ret = sys(ret);
	alarm_after(0);
	note(log, "result", ret);
	note(log, "offset of the input", at);
	note(log, "offset of the output", out);

	if (is_stored(t->from))
		note(log, "position of the input", lseek(from[0], 0, SEEK_CUR));
	else if (t->from == UNIX || t->from == TCP)
		note(log, "bytes left in the socket", buffered(from[0]));
	else if (t->from < FILE_OF_DISK)
		note_pipe(log, from[0]);

	if (is_stored(t->to)) {
		note(log, "position of the output", lseek(to[1], 0, SEEK_CUR));
		ret = pread(to[1], buf, sizeof(buf), 0);
		note(log, "size of the output", ret);
		note(log, "sum of the output", sum(buf, ret));
	} else if (t->to < FILE_OF_DISK) {
		note_pipe(log, to[0]);
	} else if (t->to < ZERO && ret > 0) {
		wait_for(to[0], ret);
		ret = recv(to[0], buf, sizeof(buf), MSG_DONTWAIT);
		note(log, "bytes received", ret);
		note(log, "sum of the socket", sum(buf, ret));
	}
}

/* Runs a transfer, unless the results differ on purpose. */
static bool try_transfer(const struct transfer *t)
{
	static const char *const ops[] = { "splice", "tee", "sendfile", "copy_file_range" };
	char name[200];

	/* DIFFERENCE: the kernel sends from a zpipe to its own pipe. */
	if (zpipe_expected() && t->op == SENDFILE && t->from == OURS && t->to == KERNEL &&
	    t->len && !t->off_from)
		return true;
	/* DIFFERENCE: zpipe takes bytes from each file that can be read, here none. */
	if (zpipe_expected() && t->from == NUL && (t->op == SPLICE || t->op == SENDFILE))
		return true;
	snprintf(name, sizeof(name), "%s(%s, %s, offsets %d %d, %zu, flags %u)", ops[t->op],
		 names[t->from], names[t->to], t->off_from, t->off_to, t->len, t->flags);
	return same(transfer, t, name);
}

/* Runs all transfers of @op between a pipe and a file of @kind, in both directions. */
static bool all_transfers(int op, enum kind kind)
{
	static const size_t lens[] = { 0, 1, 1000, 5000, 2 * HELD };
	static const unsigned int flags[] = { 0, SPLICE_F_NONBLOCK, SPLICE_F_MORE | SPLICE_F_MOVE };
	int offsets = op == TEE ? 1 : op == SENDFILE ? 2 : 4;
	int way, offs, len, flag;
	bool good = true;

	for (way = 0; way < 2; way++)
		for (offs = 0; offs < offsets; offs++)
			for (len = 0; len < 5; len++)
				for (flag = 0; flag < (op <= TEE ? 3 : 1); flag++) {
					struct transfer t = {
						.op = op,
						.from = way ? kind : OURS,
						.to = way ? OURS : kind,
						.len = lens[len],
						.flags = flags[flag],
						.off_from = offs & 1,
						.off_to = offs & 2,
					};

					good = try_transfer(&t) && good;
				}
	return good;
}

FIXTURE(with) {};

FIXTURE_VARIANT(with)
{
	enum kind kind;
};

FIXTURE_SETUP(with) {}
FIXTURE_TEARDOWN(with) {}

FIXTURE_VARIANT_ADD(with, pipe)		{ .kind = OURS };
FIXTURE_VARIANT_ADD(with, kernel)	{ .kind = KERNEL };
FIXTURE_VARIANT_ADD(with, file)		{ .kind = FILE_OF_DISK };
FIXTURE_VARIANT_ADD(with, memfd)	{ .kind = MEMFD };
FIXTURE_VARIANT_ADD(with, unix)		{ .kind = UNIX };
FIXTURE_VARIANT_ADD(with, tcp)		{ .kind = TCP };
FIXTURE_VARIANT_ADD(with, zero)		{ .kind = ZERO };
FIXTURE_VARIANT_ADD(with, null)		{ .kind = NUL };

TEST_F_TIMEOUT(with, splice, TIMEOUT)
{
	EXPECT_TRUE(all_transfers(SPLICE, variant->kind));
}

TEST_F_TIMEOUT(with, tee, TIMEOUT)
{
	EXPECT_TRUE(all_transfers(TEE, variant->kind));
}

TEST_F_TIMEOUT(with, sendfile, TIMEOUT)
{
	EXPECT_TRUE(all_transfers(SENDFILE, variant->kind));
}

TEST_F_TIMEOUT(with, copy_file_range, TIMEOUT)
{
	EXPECT_TRUE(all_transfers(COPY_FILE_RANGE, variant->kind));
}

static void errors(struct log *log, const void *arg)
{
	int append, only_read, only_write, sealed, path, dir, event;
	int a[2], b[2], file = make_file(HELD);
	off64_t off = 0, negative = -1, end = LLONG_MAX;
	off64_t *locked = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	off64_t *bad = (off64_t *)8;

	make_pipe(log, a, 0);
	make_pipe(log, b, 0);
	fill(a[1], HELD);
	append = again(file, O_RDWR | O_APPEND);
	only_read = again(file, O_RDONLY);
	only_write = again(file, O_WRONLY);
	path = again(a[0], O_PATH);
	dir = open("/", O_RDONLY);
	event = eventfd(1, EFD_NONBLOCK);
	sealed = memfd_create("sealed", MFD_ALLOW_SEALING);
	fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE);

	/* the wrong ends, and descriptors that are not open */
	NOTE(splice(a[1], NULL, file, NULL, 10, 0));
	NOTE(splice(file, NULL, a[0], NULL, 10, 0));
	NOTE(splice(a[1], NULL, b[1], NULL, 10, 0));
	NOTE(splice(a[0], NULL, b[0], NULL, 10, 0));
	NOTE(splice(a[0], NULL, only_read, NULL, 10, 0));
	NOTE(splice(only_write, NULL, b[1], NULL, 10, 0));
	NOTE(splice(a[0], NULL, -1, NULL, 10, 0));
	NOTE(splice(-1, NULL, b[1], NULL, 10, 0));
	NOTE(splice(path, NULL, b[1], NULL, 10, 0));
	NOTE(splice(a[0], NULL, path, NULL, 10, 0));
	NOTE(tee(a[1], b[1], 10, 0));
	NOTE(tee(a[0], b[0], 10, 0));
	NOTE(tee(path, b[1], 10, 0));
	NOTE(tee(a[0], -1, 10, 0));
	NOTE(sendfile(a[0], file, NULL, 10));
	NOTE(sendfile(b[1], only_write, NULL, 10));
	NOTE(sendfile(b[1], path, NULL, 10));
	NOTE(copy_file_range(a[1], NULL, file, NULL, 10, 0));
	NOTE(copy_file_range(file, NULL, b[0], NULL, 10, 1));

	/* offsets of pipes, before everything but descriptors that are not open */
	NOTE(splice(a[0], &off, file, NULL, 10, 0));
	NOTE(splice(a[0], bad, file, NULL, 10, 0));
	NOTE(splice(a[1], &off, file, NULL, 10, 0));
	NOTE(splice(a[0], &off, only_read, NULL, 10, 0));
	NOTE(splice(a[0], &off, -1, NULL, 10, 0));
	NOTE(splice(path, &off, file, NULL, 10, 0));
	NOTE(splice(a[0], &off, path, NULL, 10, 0));
	NOTE(splice(file, NULL, b[1], &off, 10, 0));
	NOTE(splice(file, bad, b[1], &off, 10, 0));
	NOTE(splice(file, NULL, b[1], bad, 10, 0));
	NOTE(splice(a[0], NULL, b[1], &off, 10, 0));
	NOTE(splice(a[0], &off, b[1], NULL, 10, 0));
	NOTE(splice(a[0], &off, file, NULL, 10, 16));
	NOTE(splice(a[0], &off, file, NULL, 0, 16));

	/* offsets of files */
	NOTE(splice(a[0], NULL, file, bad, 10, 0));
	NOTE(splice(file, bad, b[1], NULL, 10, 0));
	NOTE(splice(a[0], NULL, file, &negative, 10, 0));
	NOTE(splice(file, &negative, b[1], NULL, 10, 0));
	NOTE(splice(a[0], NULL, file, &end, 10, 0));
	NOTE(splice(file, &end, b[1], NULL, 10, 0));
	NOTE(splice(event, &off, b[1], NULL, 10, 0));
	NOTE(splice(a[0], NULL, event, &off, 10, 0));
	NOTE(sendfile(b[1], file, bad, 10));
	NOTE(sendfile(b[1], file, &negative, 10));
	NOTE(sendfile(b[1], file, &end, 10));
	NOTE(buffered(a[0]));
	NOTE(buffered(b[0]));
	/* These transfer the bytes and then fail. */
	NOTE(splice(a[0], NULL, file, locked, 10, 0));
	NOTE(splice(file, locked, b[1], NULL, 10, 0));
	NOTE(sendfile(b[1], file, locked, 10));
	NOTE(buffered(a[0]));
	note_pipe(log, b[0]);

	/* files that cannot be spliced */
	NOTE(splice(a[0], NULL, a[1], NULL, 10, 0));
	NOTE(tee(a[0], a[1], 10, 0));
	NOTE(tee(a[0], file, 10, 0));
	NOTE(tee(file, b[1], 10, 0));
	NOTE(splice(a[0], NULL, append, NULL, 10, 0));
	NOTE(splice(a[0], NULL, sealed, NULL, 10, 0));
	NOTE(splice(dir, NULL, b[1], NULL, 10, 0));
	NOTE(splice(a[0], NULL, event, NULL, 10, 0));
	NOTE(sendfile(b[1], dir, NULL, 10));
	NOTE(sendfile(file, a[0], NULL, 10));
	NOTE(sendfile(b[1], a[0], NULL, 10));
	NOTE(sendfile(file, a[0], &off, 10));

	/* flags and lengths */
	NOTE(splice(a[0], NULL, b[1], NULL, 10, 16));
	NOTE(splice(a[0], NULL, b[1], NULL, 0, 16));
	NOTE(tee(a[0], b[1], 10, 16));
	NOTE(tee(a[0], b[1], 0, 16));
	NOTE(splice(a[0], NULL, b[1], NULL, 10, SPLICE_F_GIFT));
	NOTE(tee(a[0], b[1], SSIZE_MAX, SPLICE_F_GIFT));
	NOTE(splice(a[0], NULL, file, NULL, SIZE_MAX, 0));
	NOTE(splice(file, NULL, b[1], NULL, SIZE_MAX, 0));
	NOTE(splice(file, &off, b[1], NULL, SSIZE_MAX, 0));
	note_pipe(log, b[0]);
	NOTE(splice(a[0], NULL, b[1], NULL, SIZE_MAX, 0));
	note_pipe(log, a[0]);
	note_pipe(log, b[0]);
}

static void no_reader(struct log *log, const void *arg)
{
	struct iovec iov = { stream, 100 };
	int a[2], b[2], file = make_file(HELD), unix_socket[2];

	make_pipe(log, a, 0);
	make_pipe(log, b, 0);
	open_kind(log, UNIX, unix_socket);
	fill(a[1], HELD);
	fill(unix_socket[1], HELD);
	close(b[0]);
	NOTE(splice(a[0], NULL, b[1], NULL, 10, 0));
	NOTE(splice(file, NULL, b[1], NULL, 10, 0));
	NOTE(splice(unix_socket[0], NULL, b[1], NULL, 10, SPLICE_F_NONBLOCK));
	NOTE(sendfile(b[1], file, NULL, 10));
	NOTE(sendfile(b[1], unix_socket[0], NULL, 10));
	NOTE(tee(a[0], b[1], 10, 0));
	NOTE(vmsplice(b[1], &iov, 1, 0));
	NOTE(vmsplice(b[1], &iov, 1, SPLICE_F_NONBLOCK));
	NOTE(lseek(file, 0, SEEK_CUR));
	note(log, "SIGPIPEs", sigpipes);
	close(unix_socket[1]);
	NOTE(buffered(unix_socket[0]));
	/* A socket whose peer is gone. */
	NOTE(splice(a[0], NULL, unix_socket[0], NULL, 10, 0));
	note_pipe(log, a[0]);
}

static void no_writer(struct log *log, const void *arg)
{
	int a[2], b[2], file = make_file(10);

	make_pipe(log, a, 0);
	make_pipe(log, b, 0);
	fill(a[1], 10);
	close(a[1]);
	NOTE(tee(a[0], b[1], 100, 0));
	NOTE(splice(a[0], NULL, b[1], NULL, 100, 0));
	NOTE(splice(a[0], NULL, b[1], NULL, 100, 0));
	NOTE(splice(a[0], NULL, file, NULL, 100, SPLICE_F_NONBLOCK));
	NOTE(tee(a[0], b[1], 100, 0));
	NOTE(lseek(file, 0, SEEK_CUR));
	note_pipe(log, b[0]);
}

/* Which file has O_NONBLOCK, or else the call has SPLICE_F_NONBLOCK, or nothing. */
enum quick { FROM, TO, FLAG, QUICK };

struct refusal {
	enum kind from, to;
	enum quick quick;
};

static void would_block(struct log *log, const void *arg)
{
	const struct refusal *r = arg;
	unsigned int flags = r->quick == FLAG ? SPLICE_F_NONBLOCK : 0;
	int from[2], to[2];

	open_kind(log, r->from, from);
	open_kind(log, r->to, to);
	if (r->quick == FROM)
		fcntl(from[0], F_SETFL, O_NONBLOCK);
	if (r->quick == TO)
		fcntl(to[1], F_SETFL, O_NONBLOCK);
	/* no bytes */
	NOTE(splice(from[0], NULL, to[1], NULL, 10, flags));
	NOTE(tee(from[0], to[1], 10, flags));
	/* no space */
	fill(from[1], 10);
	fcntl(to[1], F_SETFL, O_NONBLOCK);
	while (write(to[1], stream, PAGE) > 0)
		continue;
	if (r->quick != TO)
		fcntl(to[1], F_SETFL, 0);
	/* DIFFERENCE: O_NONBLOCK of a zpipe does not count when a pipe of the kernel is full. */
	if (!zpipe_expected() || r->from != OURS || r->to != KERNEL || r->quick != FROM)
		NOTE(splice(from[0], NULL, to[1], NULL, 10, flags));
	NOTE(tee(from[0], to[1], 10, flags));
	note_pipe(log, from[0]);
}

TEST_F_TIMEOUT(with, would_block, TIMEOUT)
{
	struct refusal r;
	char name[100];
	int way;

	/* What a socket does depends on the socket. */
	if (variant->kind > KERNEL)
		return;
	for (way = 0; way < 2; way++)
		for (r.quick = FROM; r.quick < QUICK; r.quick++) {
			r.from = way ? variant->kind : OURS;
			r.to = way ? OURS : variant->kind;
			snprintf(name, sizeof(name), "would block: %s to %s, %d", names[r.from],
				 names[r.to], r.quick);
			EXPECT_TRUE(same(would_block, &r, name));
		}
}

/* The calls fill a pipe, and do not wait when it is full. */
static void filling(struct log *log, const void *arg)
{
	int a[2], big[2], file = make_file(3 * FULL);
	off64_t off = 0;

	make_pipe(log, a, 0);
	make_pipe(log, big, 0);
	NOTE(fcntl(big[1], F_SETPIPE_SZ, 4 * FULL));
	NOTE(splice(file, NULL, a[1], NULL, 3 * FULL, 0));
	NOTE(splice(file, NULL, a[1], NULL, 1, SPLICE_F_NONBLOCK));
	NOTE(lseek(file, 0, SEEK_CUR));
	NOTE(tee(a[0], big[1], 3 * FULL, 0));
	NOTE(splice(a[0], NULL, big[1], NULL, 3 * FULL, 0));
	fcntl(a[1], F_SETFL, O_NONBLOCK);
	NOTE(sendfile(a[1], file, &off, 3 * FULL));
	NOTE(sendfile(a[1], file, &off, 1));
	fcntl(a[1], F_SETFL, 0);
	NOTE(off);
	NOTE(read(a[0], buf, PAGE));
	NOTE(tee(big[0], a[1], 3 * FULL, 0));
	NOTE(splice(big[0], NULL, a[1], NULL, 3 * FULL, SPLICE_F_NONBLOCK));
	NOTE(read(a[0], buf, 2 * PAGE));
	NOTE(splice(big[0], NULL, a[1], NULL, 3 * FULL, 0));
	NOTE(splice(a[0], NULL, big[1], NULL, 3 * FULL, 0));
	note_pipe(log, big[0]);
	note_pipe(log, a[0]);
	/* DIFFERENCE: one splice from a file has at most 64 KiB. */
	NOTE(splice(file, &off, big[1], NULL, FULL, 0));
	NOTE(sendfile(big[1], file, NULL, 3 * FULL));
	note_pipe(log, big[0]);
}

/* O_APPEND of a pipe does not matter. */
static void append(struct log *log, const void *arg)
{
	int a[2], b[2], file = make_file(100), w;

	make_pipe(log, a, 0);
	make_pipe(log, b, 0);
	fill(a[1], 100);
	w = again(b[1], O_WRONLY | O_APPEND);
	NOTE(splice(a[0], NULL, w, NULL, 10, 0));
	NOTE(tee(a[0], w, 10, 0));
	NOTE(splice(file, NULL, w, NULL, 10, 0));
	NOTE(sendfile(w, file, NULL, 10));
	note_pipe(log, b[0]);
}

/* O_DIRECT of a read end does not matter. */
static void direct(struct log *log, const void *arg)
{
	int a[2], b[2], file = make_file(0);

	make_pipe(log, a, 0);
	make_pipe(log, b, 0);
	fill(a[1], 100);
	NOTE(fcntl(a[0], F_SETFL, O_DIRECT));
	NOTE(splice(a[0], NULL, b[1], NULL, 10, 0));
	NOTE(splice(a[0], NULL, file, NULL, 10, 0));
	NOTE(tee(a[0], b[1], 10, 0));
	note_pipe(log, b[0]);
	syscall(SYS_pipe2, b, 0);
	NOTE(splice(a[0], NULL, b[1], NULL, 10, 0));
	NOTE(tee(a[0], b[1], 10, 0));
	note_pipe(log, b[0]);
	note_pipe(log, a[0]);
}

FIXTURE(pipe) {};
FIXTURE_SETUP(pipe) {}
FIXTURE_TEARDOWN(pipe) {}

TEST_F_TIMEOUT(pipe, errors, TIMEOUT)
{
	EXPECT_TRUE(same(errors, NULL, "errors"));
}

TEST_F_TIMEOUT(pipe, no_reader, TIMEOUT)
{
	EXPECT_TRUE(same(no_reader, NULL, "no reader"));
}

TEST_F_TIMEOUT(pipe, no_writer, TIMEOUT)
{
	EXPECT_TRUE(same(no_writer, NULL, "no writer"));
}

TEST_F_TIMEOUT(pipe, filling, TIMEOUT)
{
	EXPECT_TRUE(same(filling, NULL, "filling"));
}

TEST_F_TIMEOUT(pipe, append, TIMEOUT)
{
	EXPECT_TRUE(same(append, NULL, "append"));
}

TEST_F_TIMEOUT(pipe, direct, TIMEOUT)
{
	EXPECT_TRUE(same(direct, NULL, "direct"));
}

/* DIFFERENCE: the kernel does not splice from its own pipe to a zpipe with O_APPEND. */
TEST_F(pipe, append_from_the_kernels)
{
	int fd[2], kernel[2], w;
	long want = zpipe_expected() ? -EINVAL : 10;

	ASSERT_EQ(0, pipe(fd));
	ASSERT_EQ(0, syscall(SYS_pipe2, kernel, 0));
	fill(kernel[1], 100);
	w = again(fd[1], O_WRONLY | O_APPEND);
	EXPECT_EQ(want, sys(splice(kernel[0], NULL, w, NULL, 10, 0)));
	EXPECT_EQ(want, sys(tee(kernel[0], w, 10, 0)));
	EXPECT_EQ(zpipe_expected() ? 100 : 90, buffered(kernel[0]));
}

/* DIFFERENCE: sendfile to a zpipe waits until it has sent all. */
TEST_F_TIMEOUT(pipe, sendfile_waits, TIMEOUT)
{
	int fd[2], file = make_file(FULL), status;

	ASSERT_EQ(0, pipe(fd));
	fill(fd[1], FULL);
	if (fork() == 0) {
		usleep(SOON * 1000);
		read(fd[0], buf, PAGE);
		usleep(SOON * 1000);
		_exit(read(fd[0], buf, 2 * PAGE) != 2 * PAGE);
	}
	EXPECT_EQ(zpipe_expected() ? 3 * PAGE : PAGE, sendfile(fd[1], file, NULL, 3 * PAGE));
	wait(&status);
	EXPECT_EQ(0, status);
}

/* DIFFERENCE: the kernel sends from a zpipe to its own pipe. */
TEST_F(pipe, sendfile_to_the_kernels)
{
	int fd[2], kernel[2];

	ASSERT_EQ(0, pipe(fd));
	ASSERT_EQ(0, syscall(SYS_pipe2, kernel, 0));
	fill(fd[1], 100);
	EXPECT_EQ(zpipe_expected() ? 10 : -EINVAL, sys(sendfile(kernel[1], fd[0], NULL, 10)));
}

/* Starts a child that writes to @fd[1], or reads from @fd[0], so many bytes later. */
static void later(int writes, int fd, long bytes)
{
	if (fork())
		return;
	usleep(SOON * 1000);
	if (writes)
		fill(fd, bytes);
	else if (read(fd, buf, bytes) != bytes)
		_exit(1);
	_exit(0);
}

struct waiting {
	enum kind from, to;
};

static void waits(struct log *log, const void *arg)
{
	const struct waiting *w = arg;
	int from[2], to[2], pass;

	open_kind(log, w->from, from);
	open_kind(log, w->to, to);
	for (pass = 0; pass < 2; pass++) {
		later(true, from[1], 100);
		NOTE(pass ? tee(from[0], to[1], 1000, 0) :
			    splice(from[0], NULL, to[1], NULL, 1000, 0));
	}
	note_pipe(log, to[0]);
	note_pipe(log, from[0]);

	/* Space for one page. */
	fill(from[1], 3 * PAGE);
	fill(to[1], FULL);
	for (pass = 0; pass < 2; pass++) {
		later(false, to[0], PAGE);
		NOTE(pass ? tee(from[0], to[1], 3 * PAGE, 0) :
			    splice(from[0], NULL, to[1], NULL, 3 * PAGE, 0));
	}
	note_pipe(log, to[0]);
	note_pipe(log, from[0]);
}

/* A wait ends with EINTR, or goes on after the handler of the signal. */
static void interrupted(struct log *log, const void *arg)
{
	const struct waiting *w = arg;
	int from[2], to[2], restart, pass;

	open_kind(log, w->from, from);
	open_kind(log, w->to, to);
	for (restart = 0; restart < 2; restart++) {
		handle_alarm(restart ? SA_RESTART : 0);
		for (pass = 0; pass < 2; pass++) {
			later(true, from[1], 100);
			alarm_after(SOON / 2);
			note(log, "interrupted", sys(pass ?
				tee(from[0], to[1], 1000, 0) :
				splice(from[0], NULL, to[1], NULL, 1000, 0)));
			while (wait(NULL) > 0)
				continue;
			while (buffered(from[0]) > 0)
				read(from[0], buf, FULL);
		}
		note_pipe(log, to[0]);
	}
}

TEST_F_TIMEOUT(with, waits, TIMEOUT)
{
	struct waiting w;
	char name[100];
	int way;

	if (variant->kind > KERNEL)
		return;
	for (way = 0; way < 2; way++) {
		w.from = way ? variant->kind : OURS;
		w.to = way ? OURS : variant->kind;
		snprintf(name, sizeof(name), "waits: %s to %s", names[w.from], names[w.to]);
		EXPECT_TRUE(same(waits, &w, name));
		snprintf(name, sizeof(name), "interrupted: %s to %s", names[w.from], names[w.to]);
		EXPECT_TRUE(same(interrupted, &w, name));
	}
}

/* From a file to a full pipe: it waits for space, fills what there is and returns. */
static void waits_for_space(struct log *log, const void *arg)
{
	int a[2], file = make_file(3 * FULL);
	off64_t off = 0;

	make_pipe(log, a, 0);
	fill(a[1], FULL);
	later(false, a[0], PAGE);
	NOTE(splice(file, &off, a[1], NULL, 3 * PAGE, 0));
	NOTE(off);
	note_pipe(log, a[0]);
}

TEST_F_TIMEOUT(pipe, waits_for_space, TIMEOUT)
{
	EXPECT_TRUE(same(waits_for_space, NULL, "waits for space"));
}

/* Messages of several segments. Each is one write. */
static void segments(struct log *log, const void *arg)
{
	bool packets = arg;
	struct iovec iov[4] = {
		{ stream, 100 }, { NULL, 0 }, { stream + 1000, 200 }, { stream + 3000, 300 },
	};
	struct iovec big[3] = { { stream, 3000 }, { stream + 5000, 3000 }, { stream, 3 * PAGE } };
	struct iovec out[2] = { { buf, 10 }, { buf + 10, 5000 } };
	int a[2];

	make_pipe(log, a, packets ? O_DIRECT : 0);
	fill(a[1], 5);
	NOTE(vmsplice(a[1], iov, 4, 0));
	NOTE(vmsplice(a[1], iov, 4, SPLICE_F_NONBLOCK));
	NOTE(vmsplice(a[1], big, 3, SPLICE_F_GIFT));
	note(log, "memory after a gift", sum(stream, 9000));
	NOTE(vmsplice(a[1], iov + 1, 1, 0));
	NOTE(vmsplice(a[1], iov, 0, 0));
	NOTE(fcntl(a[1], F_GETFL) & O_DIRECT);
	NOTE(read(a[0], buf, 5));
	note_pipe(log, a[0]);
	NOTE(vmsplice(a[1], iov, 4, 0));
	NOTE(vmsplice(a[0], out, 2, 0));
	NOTE(sum(buf, 600));
	NOTE(vmsplice(a[0], out, 2, SPLICE_F_NONBLOCK));
}

TEST_F(pipe, segments)
{
	EXPECT_TRUE(same(segments, NULL, "segments"));
}

TEST_F(pipe, segments_and_packets)
{
	EXPECT_TRUE(same(segments, "packets", "segments and packets"));
}

static void segments_wait(struct log *log, const void *arg)
{
	struct iovec small[3] = { { stream, 100 }, { stream, 0 }, { stream + 100, 200 } };
	struct iovec large[3] = {
		{ stream, 0 }, { stream, 2 * PAGE }, { stream + 2 * PAGE, 4 * PAGE },
	};
	long flags = (long)arg, ret;
	int a[2];

	make_pipe(log, a, flags & O_DIRECT);
	fill(a[1], FULL);
	fcntl(a[1], F_SETFL, flags);
	later(false, a[0], PAGE);
	ret = sys(vmsplice(a[1], small, 3, 0));
	/* DIFFERENCE: each segment takes up a slot of a pipe, but a zpipe joins small ones. */
	note(log, "small ones", ret == (log->kernel || !zpipe_expected() ? 100 : 300));
	while (buffered(a[0]) > 0)
		read(a[0], buf, FULL);

	fill(a[1], FULL);
	later(false, a[0], PAGE);
	NOTE(vmsplice(a[1], large, 3, 0));
	later(false, a[0], 3 * PAGE);
	while (wait(NULL) > 0)
		continue;
	NOTE(vmsplice(a[1], large, 3, 0));
	note_pipe(log, a[0]);
	/* space in the middle of a segment */
	fill(a[1], FULL - PAGE);
	NOTE(vmsplice(a[1], large, 3, SPLICE_F_NONBLOCK));
	NOTE(vmsplice(a[1], large, 3, SPLICE_F_NONBLOCK));
	note_pipe(log, a[0]);
}

TEST_F_TIMEOUT(pipe, segments_wait, TIMEOUT)
{
	EXPECT_TRUE(same(segments_wait, NULL, "segments wait"));
	EXPECT_TRUE(same(segments_wait, (void *)O_NONBLOCK, "segments wait, O_NONBLOCK"));
	EXPECT_TRUE(same(segments_wait, (void *)O_DIRECT, "segments wait, packets"));
}

static long counter(int fd, const char *name)
{
	char path[64], line[200];
	long value = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, name, strlen(name)) == 0)
			value = atol(line + strlen(name));
	if (file)
		fclose(file);
	return value;
}

TEST_F(pipe, segments_are_one_write)
{
	struct iovec iov[3] = { { stream, 100 }, { stream, 200 }, { stream, 300 } };
	struct iovec large[2] = { { stream, 3 * PAGE }, { stream, 3 * PAGE } };
	int fd[2];

	ASSERT_EQ(0, pipe(fd));
	EXPECT_EQ(600, vmsplice(fd[1], iov, 3, 0));
	EXPECT_EQ(600, vmsplice(fd[1], iov, 3, SPLICE_F_NONBLOCK));
	EXPECT_EQ(6 * PAGE, vmsplice(fd[1], large, 2, 0));
	if (zpipe_expected())
		EXPECT_EQ(3, counter(fd[1], "zpipe-writes:"));
}

/* No splice passes through memory of the process, and none leaves descriptors open. */
TEST_F(pipe, descriptors)
{
	int fd[2], kernel[2], file = make_file(100), before, after;

	ASSERT_EQ(0, pipe(fd));
	ASSERT_EQ(0, syscall(SYS_pipe2, kernel, 0));
	before = dup(0);
	fill(fd[1], 100);
	EXPECT_EQ(10, tee(fd[0], kernel[1], 10, 0));
	EXPECT_EQ(10, tee(kernel[0], fd[1], 20, 0));
	EXPECT_EQ(-EINVAL, sys(tee(file, fd[1], 20, 0)));
	EXPECT_EQ(10, splice(file, NULL, fd[1], NULL, 10, 0));
	EXPECT_EQ(10, splice(fd[0], NULL, file, NULL, 10, 0));
	after = dup(0);
	EXPECT_EQ(before + 1, after);
}

TEST_HARNESS_MAIN
