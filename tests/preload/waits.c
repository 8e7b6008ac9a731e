// SPDX-License-Identifier: GPL-2.0-only
/*
 * Splices that wait for bytes or for free space, or would have to, and messages of several
 * segments. tests/preload.sh runs this program without libzpipe_preload.so and with it; see
 * scenario.h.
 */
#include "kselftest_harness.h"

#include "scenario.h"

#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>

/* What a socket does while it waits depends on the socket. */
enum kind { OURS, KERNEL };

static const char *const names[] = { "pipe2()", "kernel's pipe" };

static void open_kind(struct log *log, enum kind kind, int fd[2])
{
	if (kind == OURS)
		make_pipe(log, fd, 0);
	else if (syscall(SYS_pipe2, fd, 0))
		abort();
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

FIXTURE(pipe) {};
FIXTURE_SETUP(pipe) {}
FIXTURE_TEARDOWN(pipe) {}

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
	NOTE(splice(file, &off, big[1], NULL, 2 * FULL, 0));
	NOTE(sendfile(big[1], file, NULL, 3 * FULL));
	note_pipe(log, big[0]);
}

TEST_F_TIMEOUT(pipe, filling, TIMEOUT)
{
	EXPECT_TRUE(same(filling, NULL, "filling"));
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

/* sendfile to a pipe waits for free space, and returns when the pipe is full. */
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
	EXPECT_EQ(PAGE, sendfile(fd[1], file, NULL, 3 * PAGE));
	wait(&status);
	EXPECT_EQ(0, status);
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

TEST_HARNESS_MAIN
