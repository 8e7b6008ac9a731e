// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel runs out of memory, or a copy from or to user memory fails, at each place in a call
 * where that can happen. /proc/thread-self/fail-nth selects one place after the other.
 *
 * The result of the call must be true. The bytes that it counted are in the pipe or in the
 * buffer, and the others are where they were. A failure leaves nothing behind. The kernel's own
 * checks find leaks, and locks that stay held.
 *
 * A failed copy is EFAULT at once with pipe(2). zpipe tries again with page faults enabled, so a
 * copy that fails only once has no effect there.
 *
 * The tests are skipped on a kernel without fault injection.
 */
#include "oracle.h"
#include "child.h"
#include "fail.h"

#include <dirent.h>
#include <sys/epoll.h>

/*
 * A limit above the number of such places in any call here. A call that still fails there fails
 * the test.
 */
#define MANY		5000
#define FULL		(SLOTS * PAGE)

/* The probability of each kind of failure, for tasks that set make-it-fail. */
static const char * const chances[] = {
	"failslab/probability", "fail_page_alloc/probability",
	"fail_usercopy/probability",
};

static bool put_chances(const char *percent)
{
	bool done = true;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(chances); i++)
		done &= !write_line(DEBUGFS, chances[i], percent);
	return done;
}

FIXTURE(inject) {
	struct ends e;
	int nth;
	int nr_fds;
	unsigned char *buf;
};

FIXTURE_VARIANT(inject) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(inject, pipe) { .kind = PIPE };
FIXTURE_VARIANT_ADD(inject, fifo) { .kind = FIFO };
FIXTURE_VARIANT_ADD(inject, zpair) { .kind = ZPAIR };
FIXTURE_VARIANT_ADD(inject, znode) { .kind = ZNODE };

/* The number of open descriptors of this process. */
static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

FIXTURE_SETUP(inject)
{
	ASSERT_EQ(0, ends_make(&self->e, variant->kind));
	self->nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->nth);
	ASSERT_TRUE(put_all(false));
	/* All pages are resident, so that no page fault of this process is among the failures. */
	self->buf = mmap(NULL, 4 * FULL, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->buf);
	self->nr_fds = count_fds();
}

FIXTURE_TEARDOWN(inject)
{
	put_chances("0");
	put_all(true);
	ends_free(&self->e);
}

static bool is_failure(long ret)
{
	return ret == -ENOMEM || ret == -EFAULT;
}

/* Reads until the pipe is empty. Returns the number of bytes, or -EILSEQ. */
static long drain(int fd, unsigned char *buf, unsigned long off)
{
	long ret, total = 0;

	while (fionread(fd) > 0) {
		ret = sys(read(fd, buf, FULL));
		if (ret <= 0 || stream_diff(buf, off + total, ret) >= 0)
			return -EILSEQ;
		total += ret;
	}
	return total;
}

static const size_t sizes[] = { 1, 100, PAGE, 3 * PAGE + 5, FULL };

TEST_F_TIMEOUT(inject, write, TIMEOUT)
{
	unsigned int i, before;
	long ret;
	int n;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (n = 1; n < MANY; n++) {
			ASSERT_EQ(0, open_ends(&self->e, O_NONBLOCK));
			/* In every second round there is a slot to append to. */
			before = i % 2 ? 10 : 0;
			ASSERT_EQ(before, stream_write(self->e.fd[1], 0, before));
			stream_fill(self->buf, before, sizes[i]);
			arm(self->nth, n);
			ret = sys(write(self->e.fd[1], self->buf, sizes[i]));
			if (!disarm(self->nth))
				break;
			ASSERT_TRUE(ret > 0 || is_failure(ret)) {
				TH_LOG("%zu bytes, failure %d: %ld", sizes[i], n, ret);
			}
			ASSERT_EQ(before + (ret > 0 ? ret : 0),
				  drain(self->e.fd[0], self->buf, 0));
			close_end(&self->e, 0);
			close_end(&self->e, 1);
		}
		EXPECT_EQ(sizes[i], ret);
		EXPECT_LT(1, n);
		ASSERT_EQ(before + sizes[i], drain(self->e.fd[0], self->buf, 0));
		close_end(&self->e, 0);
		close_end(&self->e, 1);
	}
}

TEST_F_TIMEOUT(inject, read, TIMEOUT)
{
	unsigned int i;
	long ret, got;
	int n;

	ASSERT_EQ(0, open_ends(&self->e, O_NONBLOCK));
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (n = 1; n < MANY; n++) {
			ASSERT_EQ(sizes[i], stream_write(self->e.fd[1], 0, sizes[i]));
			memset(self->buf, 0xcc, sizes[i]);
			arm(self->nth, n);
			ret = sys(read(self->e.fd[0], self->buf, sizes[i]));
			if (!disarm(self->nth))
				break;
			ASSERT_TRUE(ret > 0 || is_failure(ret)) {
				TH_LOG("%zu bytes, failure %d: %ld", sizes[i], n, ret);
			}
			got = ret > 0 ? ret : 0;
			ASSERT_EQ(-1, stream_diff(self->buf, 0, got));
			ASSERT_EQ(sizes[i] - got, drain(self->e.fd[0], self->buf, got));
		}
		EXPECT_EQ(sizes[i], ret);
		EXPECT_LT(1, n);
	}
}

TEST_F_TIMEOUT(inject, open, TIMEOUT)
{
	long ret;
	int n;

	for (n = 1; n < MANY; n++) {
		arm(self->nth, n);
		ret = open_ends(&self->e, O_NONBLOCK | O_CLOEXEC);
		if (!disarm(self->nth))
			break;
		ASSERT_TRUE(!ret || is_failure(ret) || ret == -ENFILE) {
			TH_LOG("failure %d: %ld", n, ret);
		}
		close_end(&self->e, 0);
		close_end(&self->e, 1);
		ASSERT_EQ(self->nr_fds, count_fds());
	}
	ASSERT_EQ(0, ret);
	EXPECT_LT(5, n);
	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	ASSERT_EQ(100, drain(self->e.fd[0], self->buf, 0));
}

TEST_F_TIMEOUT(inject, set_capacity, TIMEOUT)
{
	unsigned long sizes[] = { 64 * PAGE, 4 * PAGE };
	long ret, old, now;
	unsigned int i;
	int n;

	ASSERT_EQ(0, open_ends(&self->e, O_NONBLOCK));
	ASSERT_EQ(2 * PAGE + 7, stream_write(self->e.fd[1], 0, 2 * PAGE + 7));
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (n = 1; n < MANY; n++) {
			old = set_capacity(variant->kind, self->e.fd[0], FULL);
			ASSERT_EQ(FULL, old);
			arm(self->nth, n);
			ret = set_capacity(variant->kind, self->e.fd[0], sizes[i]);
			if (!disarm(self->nth))
				break;
			ASSERT_TRUE(ret == sizes[i] || is_failure(ret)) {
				TH_LOG("failure %d: %ld", n, ret);
			}
			/* The report is the last step: it may fail after the capacity was set. */
			now = get_capacity(variant->kind, self->e.fd[0]);
			ASSERT_TRUE(now == sizes[i] || (ret < 0 && now == old));
			ASSERT_EQ(2 * PAGE + 7, fionread(self->e.fd[0]));
		}
		ASSERT_EQ(sizes[i], ret);
		EXPECT_LT(1, n);
	}
	ASSERT_EQ(2 * PAGE + 7, drain(self->e.fd[0], self->buf, 0));
}

static long watch(struct ends *e)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC), one = 1;
	struct epoll_event event = { .events = EPOLLIN };
	struct pollfd fds[] = {
		{ .fd = e->fd[0], .events = POLLIN },
		{ .fd = e->fd[1], .events = POLLOUT },
	};
	long ret;

	if (epoll < 0)
		return -errno;
	ret = sys(epoll_ctl(epoll, EPOLL_CTL_ADD, e->fd[0], &event));
	if (!ret)
		ret = sys(epoll_wait(epoll, &event, 1, 0));
	if (!ret)
		ret = sys(poll(fds, 2, 0));
	if (ret == 1)
		ret = sys(fcntl(e->fd[0], F_SETFL, O_NONBLOCK | O_ASYNC));
	if (!ret)
		ret = sys(fcntl(e->fd[0], F_SETFL, O_NONBLOCK));
	if (!ret)
		ret = sys(ioctl(e->fd[1], FIONREAD, &one));
	close(epoll);
	return ret;
}

TEST_F_TIMEOUT(inject, poll_and_sigio, TIMEOUT)
{
	long ret;
	int n;

	for (n = 1; n < MANY; n++) {
		ASSERT_EQ(0, open_ends(&self->e, O_NONBLOCK | O_CLOEXEC));
		arm(self->nth, n);
		ret = watch(&self->e);
		if (!disarm(self->nth))
			break;
		ASSERT_TRUE(!ret || is_failure(ret)) {
			TH_LOG("failure %d: %ld", n, ret);
		}
		ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
		ASSERT_EQ(100, drain(self->e.fd[0], self->buf, 0));
		close_end(&self->e, 0);
		close_end(&self->e, 1);
		ASSERT_EQ(self->nr_fds, count_fds());
	}
	EXPECT_EQ(0, ret);
	EXPECT_LT(1, n);
}

/* A child's function: reads to end of file and checks the stream; the number of bytes. */
static long read_to_the_end(struct child *c)
{
	static unsigned char buf[FULL];
	long ret, total = 0;

	while ((ret = sys(read(c->fd, buf, sizeof(buf)))) != 0) {
		if (ret < 0)
			return ret;
		if (stream_diff(buf, total, ret) >= 0)
			return -EILSEQ;
		total += ret;
	}
	return total;
}

/* A write that blocks several times until its reader has consumed bytes. */
TEST_F_TIMEOUT(inject, blocked_write, 2 * TIMEOUT)
{
	const size_t len = 3 * FULL + 100;
	struct child c;
	bool came = true;
	long ret;
	int n;

	stream_fill(self->buf, 0, len);
	/*
	 * Nearly every page of the write adds places that can fail: this takes only some of
	 * them.
	 */
	for (n = 1; came && n < MANY; n += 1 + n / 8) {
		ASSERT_EQ(0, open_ends(&self->e, 0));
		c = (struct child) {
			.fn = read_to_the_end, .nr = SYS_read,
			.fd = self->e.fd[0], .drop = self->e.fd[1],
		};
		child_start(&c, 0);
		arm(self->nth, n);
		ret = sys(write(self->e.fd[1], self->buf, len));
		came = disarm(self->nth);
		EXPECT_TRUE(came ? ret > 0 || is_failure(ret) : ret == len) {
			TH_LOG("failure %d: %ld", n, ret);
		}
		close_end(&self->e, 1);
		ASSERT_EQ(ret > 0 ? ret : 0, child_join(&c));
		close_end(&self->e, 0);
	}
	EXPECT_FALSE(came);
}

struct unlucky {
	struct ends *e;
	unsigned char *buf;
	unsigned long bytes;
	bool writes;
};

/*
 * Transfers a stream with calls of many sizes, any of which may fail. It makes no other calls,
 * since they could fail, too.
 */
static long move_stream(struct child *c)
{
	struct unlucky *u = c->arg;
	unsigned long off = 0;
	unsigned int seed = 1;
	size_t len;
	long ret;

	close(u->e->fd[u->writes ? 0 : 1]);
	while (off < u->bytes) {
		seed = seed * 1103515245 + 12345;
		len = 1 + (seed >> 16) % (seed & 0x8000 ? 3 * FULL : 2 * PAGE);
		if (len > u->bytes - off)
			len = u->bytes - off;
		if (u->writes) {
			stream_fill(u->buf, off, len);
			ret = sys(write(u->e->fd[1], u->buf, len));
		} else {
			ret = sys(read(u->e->fd[0], u->buf, len));
			if (ret > 0 && stream_diff(u->buf, off, ret) >= 0)
				return -EILSEQ;
		}
		if (ret == 0 || (ret < 0 && !is_failure(ret)))
			return ret ? ret : -EPIPE;
		off += ret > 0 ? ret : 0;
	}
	return off;
}

static long move_unluckily(struct child *c)
{
	struct unlucky *u = c->arg;

	/* The pages are resident and private, so that later only the transfers can fail. */
	memset(u->buf, 0, 4 * FULL);
	return write_line("/proc/self", "make-it-fail", "1") ? -1 :
		move_stream(c);
}

static void start_unlucky(struct child *c, struct unlucky *u)
{
	*c = (struct child) { .fn = move_unluckily, .arg = u, .drop = -1 };
	child_start(c, 0);
}

TEST_F_TIMEOUT(inject, both_ends_at_random, 2 * TIMEOUT)
{
	const unsigned long bytes = 8UL << 20;
	struct unlucky w, r;
	struct child writer, reader;

	ASSERT_EQ(0, open_ends(&self->e, 0));
	ASSERT_TRUE(put_chances("7"));
	w = (struct unlucky) { &self->e, self->buf, bytes, true };
	r = (struct unlucky) { &self->e, self->buf, bytes, false };
	start_unlucky(&writer, &w);
	start_unlucky(&reader, &r);
	close_end(&self->e, 0);
	close_end(&self->e, 1);
	EXPECT_EQ(bytes, child_join(&writer));
	EXPECT_EQ(bytes, child_join(&reader));
}

int main(int argc, char **argv)
{
	if (access("/proc/thread-self/fail-nth", F_OK)) {
		printf("TAP version 13\n1..1\n"
		       "ok 1 everything # SKIP no fault injection here\n");
		return 0;
	}
	return test_harness_run(argc, argv);
}
