// SPDX-License-Identifier: GPL-2.0-only
/*
 * splice(2), tee(2), sendfile(2) and copy_file_range(2) between files of all kinds: results,
 * offsets and errors. tests/preload.sh runs this program without libzpipe_preload.so and with
 * it; see scenario.h.
 */
#include "kselftest_harness.h"

#include "scenario.h"

#include <arpa/inet.h>
#include <limits.h>
#include <net/if.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

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

/* sendfile(2). A kernel with page owner reads /dev/zero in pages: copy_splice_read() gets only one
 * from alloc_pages_bulk(), so a call to one of the kernel's own pipes is short.
 */
static long send_from(enum kind kind, int to, int from, off64_t *off, size_t len)
{
	long ret = sendfile(to, from, off, len), more = ret;

	while (kind == ZERO && more == PAGE && (size_t)ret < len) {
		more = sendfile(to, from, off, len - ret);
		ret += more > 0 ? more : 0;
	}
	return ret;
}

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
		ret = send_from(t->from, to[1], from[0], off_from, t->len);
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

/* DIFFERENCE: the kernel sends from a zpipe to its own pipe. */
TEST_F(pipe, sendfile_to_the_kernels)
{
	int fd[2], kernel[2];

	ASSERT_EQ(0, pipe(fd));
	ASSERT_EQ(0, syscall(SYS_pipe2, kernel, 0));
	fill(fd[1], 100);
	EXPECT_EQ(zpipe_expected() ? 10 : -EINVAL, sys(sendfile(kernel[1], fd[0], NULL, 10)));
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
