// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests libzpipe.
 *
 * library MOVES: uses all functions over a zpipe. Huge pages move if MOVES is 1.
 * library kernel: runs where zpipe is not loaded.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zpipe.h>
#include <zpipe2.h>

#define HUGE_SIZE	((size_t)2 << 20)
#define HUGE_PAGES	((ssize_t)HUGE_SIZE)

/* Ends the program with the place of the check that failed. */
#define CHECK(what)	check(what, #what, __LINE__)

static void check(int right, const char *what, int line)
{
	if (right)
		return;
	printf("library.c:%d: %s; errno is %d\n", line, what, errno);
	exit(1);
}

static int full_of(const void *at, unsigned char byte, size_t len)
{
	const unsigned char *bytes = (const unsigned char *)at;

	return bytes[0] == byte && !memcmp(bytes, bytes + 1, len - 1);
}

static void test_flags(void)
{
	char bytes[9];
	int fds[2] = { -7, -8 };

	errno = 0;
	CHECK(zpipe_pipe2(fds, 0x4) == -1 && errno == EINVAL);
	CHECK(fds[0] == -7 && fds[1] == -8);
	CHECK(!zpipe_pipe2(fds, O_CLOEXEC | O_NONBLOCK | O_DIRECT | ZPIPE_BUFFER_ONLY));
	CHECK(fcntl(fds[0], F_GETFD) == FD_CLOEXEC && fcntl(fds[1], F_GETFD) == FD_CLOEXEC);
	CHECK(fcntl(fds[1], F_GETFL) & O_DIRECT && fcntl(fds[0], F_GETFL) & O_NONBLOCK);
	CHECK(write(fds[1], "one", 3) == 3 && write(fds[1], "two", 3) == 3);
	CHECK(read(fds[0], bytes, sizeof(bytes)) == 3);
	close(fds[0]);
	close(fds[1]);
	CHECK(!zpipe_pipe2(fds, 0));
	CHECK(fcntl(fds[0], F_GETFD) == 0 && fcntl(fds[1], F_GETFD) == 0);
	CHECK(!(fcntl(fds[0], F_GETFL) & O_NONBLOCK));
	CHECK(zpipe_is_zpipe(fds[0]) == 1 && zpipe_is_zpipe(fds[1]) == 1);
	CHECK(zpipe_is_zpipe(0) == 0 && zpipe_is_zpipe(-1) == 0 && zpipe_is_zpipe(999) == 0);
	close(fds[0]);
	close(fds[1]);
	CHECK(!zpipe_or_pipe2(fds, O_CLOEXEC));
	CHECK(zpipe_is_zpipe(fds[0]) == 1);
	close(fds[0]);
	close(fds[1]);
}

/* A reader that moves one huge page, in a thread, since copies of it would wait. */
struct mover {
	int fd;
	void *to;
	unsigned int flags;
	size_t done;
	struct zpipe_report report;
};

static void *move_page(void *arg)
{
	struct mover *m = (struct mover *)arg;

	for (m->done = 0; m->done < HUGE_SIZE; ) {
		struct zpipe_report report;
		ssize_t n = zpipe_move(m->fd, (char *)m->to + m->done, HUGE_SIZE - m->done,
				       m->flags, &report);

		CHECK(n > 0 && report.moved + report.copied == (size_t)n);
		m->done += n;
		m->report.moved += report.moved;
		m->report.copied += report.copied;
	}
	return NULL;
}

static void test_gift(int moves)
{
	unsigned char *from = (unsigned char *)zpipe_buffer_new(1);
	struct mover m = { .fd = -1, .to = zpipe_buffer_new(HUGE_SIZE), .flags = ZPIPE_RETURN };
	struct zpipe_report report;
	pthread_t thread;
	int fds[2];

	CHECK(from && m.to && !((uintptr_t)from % HUGE_SIZE));
	CHECK(full_of(from, 0, HUGE_SIZE));
	CHECK(!zpipe_pipe2(fds, O_CLOEXEC));
	m.fd = fds[0];
	memset(from, 7, HUGE_SIZE);
	CHECK(!pthread_create(&thread, NULL, move_page, &m));
	CHECK(zpipe_gift(fds[1], from, HUGE_SIZE, ZPIPE_ANY, &report) == HUGE_PAGES);
	CHECK(!pthread_join(thread, NULL));
	CHECK(full_of(m.to, 7, HUGE_SIZE));
	if (moves) {
		CHECK(report.moved == HUGE_SIZE && m.report.moved == HUGE_SIZE);
		CHECK(!full_of(from, 7, HUGE_SIZE));
	} else {
		CHECK(report.copied == HUGE_SIZE && m.report.copied == HUGE_SIZE);
		CHECK(full_of(from, 7, HUGE_SIZE));
	}
	/* Less than a page is copied. */
	CHECK(zpipe_gift(fds[1], from + 1, 5, 0, &report) == 5);
	CHECK(report.moved == 0 && report.copied == 5);
	CHECK(!moves || report.why[ZPIPE_REASON_PART] == 1);
	CHECK(sizeof(report.why) > ZPIPE_REASONS * sizeof(report.why[0]));
	CHECK(!report.why[sizeof(report.why) / sizeof(report.why[0]) - 1]);
	CHECK(zpipe_move(fds[0], from, 100, 0, NULL) == 5);
	CHECK(zpipe_gift(fds[1], from, 0, 0, NULL) == 0);

	CHECK(zpipe_gift(fds[1], from, 5, 1u << 31, NULL) == -1 && errno == EINVAL);
	CHECK(zpipe_gift(fds[1], NULL, 5, 0, NULL) == -1 && errno == EINVAL);
	CHECK(zpipe_gift(fds[0], from, 5, 0, NULL) == -1 && errno == EBADF);
	CHECK(zpipe_gift(-1, from, 5, 0, NULL) == -1 && errno == EBADF);
	CHECK(zpipe_move(fds[1], from, 5, 0, NULL) == -1 && errno == EBADF);
	CHECK(zpipe_move(fds[0], from, 5, ZPIPE_ANY, NULL) == -1 && errno == EINVAL);
	close(fds[1]);
	CHECK(zpipe_move(fds[0], from, 5, 0, NULL) == 0);
	CHECK(!zpipe_buffer_new(0) && errno == EINVAL);
	CHECK(!zpipe_buffer_new((size_t)-1) && errno == ENOMEM);
	errno = 0;
	zpipe_buffer_free(from, 0);
	CHECK(errno == EINVAL);
	errno = 0;
	zpipe_buffer_free(from, (size_t)-1);
	CHECK(errno == EINVAL);
	memset(from, 1, HUGE_SIZE);
	zpipe_buffer_free(from, 1);
	zpipe_buffer_free(m.to, HUGE_SIZE);
	zpipe_buffer_free(NULL, 0);
	close(fds[0]);
}

static void test_windows(void)
{
	struct zpipe_write_window *to;
	struct zpipe_read_window *from;
	struct zpipe_report report;
	struct iovec spans[2];
	char *at;
	int fds[2];

	CHECK(!zpipe_pipe2(fds, O_CLOEXEC));
	to = zpipe_window_write_new(fds[1], ZPIPE_FRAME + 1);
	if (!to && errno == EOPNOTSUPP)
		return;
	CHECK(to && zpipe_window_capacity(to) == 2 * ZPIPE_FRAME);
	from = zpipe_window_read_new(fds[0], 2 * ZPIPE_FRAME);
	CHECK(!!from);
	/* The windows are ends themselves. */
	close(fds[0]);
	close(fds[1]);

	CHECK(zpipe_window_peek(from, spans, 2, 0, ZPIPE_NONBLOCK) == -1 && errno == EAGAIN);
	at = (char *)zpipe_window_reserve(to, ZPIPE_FRAME, ZPIPE_FRAME);
	CHECK(!!at);
	memset(at, 3, ZPIPE_FRAME);
	CHECK(zpipe_window_commit(to, ZPIPE_FRAME, ZPIPE_FRAME, 0, &report) == ZPIPE_FRAME);
	CHECK(report.moved == ZPIPE_FRAME && !report.copied);
	at = (char *)zpipe_window_reserve(to, 10, 5);
	CHECK(!!at);
	memcpy(at, "hello", 5);
	CHECK(zpipe_window_commit(to, 10, 5, ZPIPE_NONBLOCK, &report) == 5);
	CHECK(report.copied == 5 && report.why[ZPIPE_REASON_PART] == 1);

	CHECK(zpipe_window_peek(from, spans, 1, 0, 0) == 1);
	CHECK(spans[0].iov_len == ZPIPE_FRAME && full_of(spans[0].iov_base, 3, ZPIPE_FRAME));
	/* The next bytes are in view, but the caller has not seen them. */
	CHECK(zpipe_window_consume(from, ZPIPE_FRAME + 1) == -1 && errno == EINVAL);
	CHECK(zpipe_window_consume(from, ZPIPE_FRAME) == 0);
	CHECK(zpipe_window_consume(from, 1) == -1 && errno == EINVAL);
	CHECK(zpipe_window_peek(from, spans, 2, 0, 0) == 1);
	CHECK(spans[0].iov_len == 5 && !memcmp(spans[0].iov_base, "hello", 5));
	CHECK(zpipe_window_consume(from, 6) == -1 && errno == EINVAL);
	CHECK(zpipe_window_peek(from, spans, 2, 0, ZPIPE_NONBLOCK | ZPIPE_MORE) == -1 &&
	      errno == EAGAIN);
	CHECK(zpipe_window_consume(from, 5) == 0);

	CHECK(!zpipe_window_reserve(to, ZPIPE_FRAME, ZPIPE_FRAME + 1) && errno == EINVAL);
	CHECK(!zpipe_window_reserve(to, 1, (size_t)-1) && errno == EINVAL);
	CHECK(zpipe_window_commit(to, 0, 1, ZPIPE_LEND, NULL) == -1 && errno == EINVAL);
	CHECK(zpipe_window_peek(from, spans, 0, 0, 0) == -1 && errno == EINVAL);
	CHECK(zpipe_window_peek(from, spans, 1, 0, ZPIPE_LEND) == -1 && errno == EINVAL);
	zpipe_window_write_free(to);
	zpipe_window_write_free(NULL);
	CHECK(zpipe_window_peek(from, spans, 2, 0, 0) == 0);
	zpipe_window_read_free(from);
	zpipe_window_read_free(NULL);
	CHECK(!zpipe_window_write_new(fds[1], 1) && errno == EBADF);
	CHECK(!zpipe_window_read_new(fds[0], 1) && errno == EBADF);
	CHECK(!zpipe_window_read_new(-1, 1) && errno == EBADF);
	fds[0] = open("/dev/null", O_RDONLY);
	CHECK(!zpipe_window_read_new(fds[0], 1) && errno == ENOTTY);
	close(fds[0]);
}

/* ZPIPE_MORE, with fewer ranges than there are packets in view. */
static void test_more(void)
{
	struct zpipe_capacity capacity = { .size = sizeof(capacity), .bytes = 1 << 20 };
	struct zpipe_read_window *from;
	struct iovec spans[40];
	int fds[2];

	CHECK(!zpipe_pipe2(fds, O_CLOEXEC | O_DIRECT));
	CHECK(!ioctl(fds[0], ZPIPE_IOC_SET_CAPACITY, &capacity));
	from = zpipe_window_read_new(fds[0], ZPIPE_FRAME);
	if (!from && errno == EOPNOTSUPP)
		return;
	CHECK(!!from);
	for (int i = 0; i < 30; i++)
		CHECK(write(fds[1], "abc", 3) == 3);
	CHECK(zpipe_window_peek(from, spans, 20, 0, 0) == 20);
	/* This must not wait: ten packets were not stored. */
	CHECK(zpipe_window_peek(from, spans, 40, 0, ZPIPE_MORE) == 30);
	CHECK(spans[29].iov_len == 3 && !memcmp(spans[29].iov_base, "abc", 3));
	CHECK(zpipe_window_peek(from, spans, 40, 0, ZPIPE_NONBLOCK | ZPIPE_MORE) == -1 &&
	      errno == EAGAIN);
	/* Nor can it ever store more in an array that is full. */
	CHECK(zpipe_window_peek(from, spans, 20, 0, 0) == 20);
	CHECK(zpipe_window_peek(from, spans, 20, 0, ZPIPE_MORE) == -1 && errno == ENOBUFS);
	CHECK(zpipe_window_consume(from, 61) == -1 && errno == EINVAL);
	CHECK(zpipe_window_consume(from, 3) == 0);
	CHECK(zpipe_window_peek(from, spans, 20, 1, ZPIPE_MORE) == 20);
	CHECK(zpipe_window_consume(from, 60) == 0);
	CHECK(zpipe_window_peek(from, spans, 20, 0, ZPIPE_MORE) == 9);
	/* At the end of the data it returns the same again. */
	close(fds[1]);
	CHECK(zpipe_window_peek(from, spans, 20, 0, ZPIPE_MORE) == 9);
	CHECK(zpipe_window_consume(from, 27) == 0);
	CHECK(zpipe_window_peek(from, spans, 20, 0, ZPIPE_MORE) == 0);
	zpipe_window_read_free(from);
	close(fds[0]);
}

static void test_without_zpipe(void)
{
	char bytes[9];
	struct zpipe_report report;
	int fds[2] = { -7, -8 };

	CHECK(zpipe_pipe2(fds, 0) == -1 && errno == ENOENT);
	CHECK(zpipe2(fds, 0) == -1 && errno == ENOENT);
	CHECK(fds[0] == -7 && fds[1] == -8);
	CHECK(!zpipe_or_pipe2(fds, O_NONBLOCK));
	CHECK(zpipe_is_zpipe(fds[0]) == 0);
	CHECK(fcntl(fds[0], F_GETFD) == 0 && fcntl(fds[0], F_GETFL) & O_NONBLOCK);
	memcpy(bytes, "hello", 5);
	CHECK(zpipe_gift(fds[1], bytes, 5, 0, &report) == 5);
	CHECK(!report.moved && report.copied == 5);
	CHECK(zpipe_move(fds[0], bytes, 9, 0, &report) == 5 && !memcmp(bytes, "hello", 5));
	CHECK(!report.moved && report.copied == 5);
	CHECK(zpipe_move(fds[0], bytes, 9, 0, NULL) == -1 && errno == EAGAIN);
	CHECK(!zpipe_window_write_new(fds[1], 1) && errno == ENOTTY);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc == 2 && !strcmp(argv[1], "kernel")) {
		test_without_zpipe();
		return 0;
	}
	test_flags();
	test_gift(argc == 2 && !strcmp(argv[1], "1"));
	test_windows();
	test_more();
	return 0;
}
