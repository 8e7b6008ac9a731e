// SPDX-License-Identifier: GPL-2.0-only
/*
 * Transfers between a pipe and a stream socket, of AF_UNIX or TCP over the loopback interface.
 * Over the kernel's own pipes it is splice(2).
 */
#include "splice_files.h"
#include "direct.h"

#include <netinet/in.h>
#include <sys/socket.h>

/* Runs the rest of the test for both kinds of sockets. s[0] belongs to the peer. */
#define EACH_SOCKET							\
	for (int tcp = 0, s[2]; tcp < 2 && !connect_sockets(tcp, s);	\
	     close(s[0]), close(s[1]), tcp++)

static int connect_sockets(bool tcp, int s[2])
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	socklen_t len = sizeof(addr);
	int l;

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (!tcp)
		return socketpair(AF_UNIX, SOCK_STREAM, 0, s);
	l = socket(AF_INET, SOCK_STREAM, 0);
	s[1] = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(l, (void *)&addr, len) || listen(l, 1) ||
	    getsockname(l, (void *)&addr, &len) || connect(s[1], (void *)&addr, len))
		abort();
	s[0] = accept(l, NULL, NULL);
	close(l);
	return s[0] < 0 ? -1 : 0;
}

TEST_F_TIMEOUT(all, bytes_to_a_socket, TIMEOUT)
{
	static const size_t lens[] = { 1, 100, PAGE, PAGE + 1, 20000, FULL };
	bool zpipe = is_zpipe(variant->kind);
	unsigned int i;
	long n, done;

	EACH_SOCKET {
		for (i = 0; i < ARRAY_SIZE(lens); i++) {
			ASSERT_EQ(lens[i], stream_write(self->e.fd[1], 0, lens[i]));
			for (done = 0; done < lens[i]; done += n) {
				n = to(&self->e, s[1], done ? FULL : lens[i] / 2 + 1,
				       i % 2 ? ZPIPE_SPLICE_MORE : 0);
				ASSERT_LT(0, n);
			}
			ASSERT_EQ(lens[i], drain(s[0], 0, lens[i], FULL));
		}
		/* Whole pages are not copied. */
		if (zpipe)
			EXPECT_LE(3, fdinfo_number(self->e.fd[0], "zpipe-pages-passed-on"));
	}
}

TEST_F_TIMEOUT(all, bytes_from_a_socket, TIMEOUT)
{
	static const size_t lens[] = { 1, 100, PAGE, PAGE + 1, 20000 };
	unsigned int i;
	struct child c;
	long n, done;

	EACH_SOCKET {
		for (i = 0; i < ARRAY_SIZE(lens); i++) {
			ASSERT_EQ(lens[i], stream_write(s[0], 0, lens[i]));
			for (done = 0; done < lens[i]; done += n) {
				n = from(&self->e, s[1], done ? FULL : lens[i] / 2 + 1, 0);
				ASSERT_LT(0, n);
				ASSERT_EQ(n, drain(self->e.fd[0], done, n, FULL));
			}
		}
		child_transfer(&c, &self->e, s[1], FULL, CHILD_FROM);
		ASSERT_TRUE(child_asleep(&c));
		ASSERT_EQ(10, stream_write(s[0], 0, 10));
		EXPECT_EQ(10, child_join(&c));
		EXPECT_EQ(10, stream_read(self->e.fd[0], 0, FULL));
		ASSERT_EQ(0, set_nonblock(s[1], true));
		EXPECT_EQ(-EAGAIN, from(&self->e, s[1], FULL, 0));
		EXPECT_SIDE(ZPIPE_SIDE_FILE);
		shutdown(s[0], SHUT_WR);
		ASSERT_EQ(0, set_nonblock(s[1], false));
		EXPECT_EQ(0, from(&self->e, s[1], FULL, 0));
		EXPECT_SIDE(ZPIPE_SIDE_FILE);
	}
}

TEST_F_TIMEOUT(all, offset_in_a_socket_einval, TIMEOUT)
{
	loff_t off = 0;

	EACH_SOCKET {
		ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
		EXPECT_EQ(-EINVAL, transfer_at(&self->e, TO, s[1], &off, 10, 0));
		EXPECT_EQ(-EINVAL, transfer_at(&self->e, FROM, s[1], &off, 10, 0));
		EXPECT_EQ(10, stream_read(self->e.fd[0], 0, 20));
	}
}

/* A socket that sends no more. The bytes stay in the pipe. */
TEST_F_TIMEOUT(all, closed_socket_epipe, TIMEOUT)
{
	catch_signal(SIGPIPE, 0);
	EACH_SOCKET {
		signals_seen = 0;
		if (tcp)
			shutdown(s[1], SHUT_WR);
		else
			shutdown(s[0], SHUT_RDWR);
		ASSERT_EQ(5000, stream_write(self->e.fd[1], 0, 5000));
		EXPECT_EQ(-EPIPE, to(&self->e, s[1], 5000, 0));
		EXPECT_SIDE(ZPIPE_SIDE_FILE);
		EXPECT_EQ(1, signals_seen);
		EXPECT_EQ(5000, stream_read(self->e.fd[0], 0, FULL));
	}
}

/* Sends until the socket is full, and receives all of it. */
TEST_F_TIMEOUT(all, full_nonblocking_socket, TIMEOUT)
{
	EACH_SOCKET {
		long in = 0, sent = 0, n = 0, left;
		int size = 20000;

		setsockopt(s[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
		setsockopt(s[0], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
		ASSERT_EQ(0, set_nonblock(s[1], true));
		while (n >= 0 && in < 100 * FULL) {
			left = fionread(self->e.fd[0]);
			if (!left) {
				ASSERT_EQ(FULL, stream_write(self->e.fd[1], in, FULL));
				in += FULL;
			}
			n = to(&self->e, s[1], FULL, 0);
			sent += n > 0 ? n : 0;
			ASSERT_EQ(in - sent, fionread(self->e.fd[0]));
		}
		EXPECT_EQ(-EAGAIN, n);
		EXPECT_SIDE(ZPIPE_SIDE_FILE);
		ASSERT_EQ(sent, drain(s[0], 0, sent, FULL));
		ASSERT_EQ(0, set_nonblock(s[1], false));
		while (sent < in) {
			n = to(&self->e, s[1], PAGE / 2, 0);
			ASSERT_LT(0, n);
			ASSERT_EQ(n, drain(s[0], sent, n, FULL));
			sent += n;
		}
	}
}

/* Fills a socket until a child's transfer blocks in it. Returns the number of bytes in all. */
static long blocked_in(struct __test_metadata *_metadata, struct ends *e, int s[2],
		       struct child *c)
{
	int size = 20000;
	long in = 0;

	setsockopt(s[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(s[0], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	for (;;) {
		ASSERT_EQ(FULL, stream_write(e->fd[1], in, FULL));
		in += FULL;
		child_transfer(c, e, s[1], FULL, 0);
		if (child_asleep(c))
			return in;
		ASSERT_LT(0, child_join(c));
		while (fionread(e->fd[0])) {
			child_transfer(c, e, s[1], FULL, 0);
			if (child_asleep(c))
				return in;
			ASSERT_LT(0, child_join(c));
		}
	}
}

/* Nothing is lost if the transfer is killed, or interrupted. */
TEST_F_TIMEOUT(all, killed_in_a_socket, TIMEOUT)
{
	int sig;

	catch_signal(SIGUSR1, 0);
	for (sig = 0; sig < 2; sig++) {
		EACH_SOCKET {
			long in, left;
			struct child c;

			in = blocked_in(_metadata, &self->e, s, &c);
			child_signal(&c, sig ? SIGUSR1 : SIGKILL);
			EXPECT_TRUE(sig ? child_join(&c) != STUCK :
					  child_join(&c) == KILLED(SIGKILL));
			left = fionread(self->e.fd[0]);
			ASSERT_LT(0, left);
			ASSERT_EQ(0, set_nonblock(s[0], true));
			/* A part that the socket had accepted before the signal is sent. */
			EXPECT_EQ(left, stream_read(self->e.fd[0], in - left, FULL));
			ASSERT_EQ(0, set_nonblock(s[0], false));
			EXPECT_EQ(in - left, drain(s[0], 0, in - left, FULL));
			ASSERT_EQ(0, set_nonblock(s[0], true));
			EXPECT_EQ(-EAGAIN, drain(s[0], 0, 1, 1));
		}
	}
}

/* What another process does with a pipe of which a transfer is blocked in a socket. */
static long use_pipe(struct child *c)
{
	struct ends *e = c->arg;
	long n;

	if (poll_mask(e->fd[0]) != POLLIN || poll_mask(e->fd[1]) < 0)
		return 1;
	if (fionread(e->fd[0]) <= 0)
		return 2;
	if (set_nonblock(e->fd[1], true))
		return 3;
	n = stream_write(e->fd[1], 0, 10);
	if (n != 10 && n != -EAGAIN)
		return 4;
	return set_nonblock(e->fd[1], false) ? 5 : 0;
}

/*
 * DEVIATION: splice(2) to a socket holds the pipe's mutex while the socket is full. A zpipe can be
 * polled and written meanwhile.
 */
TEST_F_TIMEOUT(all, others_beside_a_full_socket, TIMEOUT)
{
	bool zpipe = is_zpipe(variant->kind);

	EACH_SOCKET {
		struct child c, other;
		blocked_in(_metadata, &self->e, s, &c);
		child_run(&other, use_pipe, &self->e);
		if (zpipe) {
			EXPECT_EQ(0, child_join(&other));
		} else {
			/* It waits for the mutex. */
			EXPECT_TRUE(eventually(task_state(other.pid) == 'D'));
		}
		EXPECT_EQ(KILLED(SIGKILL), child_kill(&c));
		if (!zpipe)
			EXPECT_NE(STUCK, child_join(&other));
		while (fionread(self->e.fd[0]))
			read(self->e.fd[0], malloc(FULL), FULL);
	}
}

/*
 * The last writer leaves while a transfer is blocked in a socket, with bytes that return to the
 * pipe. They are not behind the end of the data: no reader has been told of that.
 */
TEST_F_TIMEOUT(all, end_of_file_beside_a_full_socket, TIMEOUT)
{
	if (!is_zpipe(variant->kind))
		SKIP(return, "to close an end would take the mutex");
	EACH_SOCKET {
		struct child c, reader;
		struct ends e;

		ASSERT_EQ(0, ends_make(&e, variant->kind));
		ASSERT_EQ(0, open_ends(&e, 0));
		blocked_in(_metadata, &e, s, &c);
		close_end(&e, 1);
		/* The transfer has bytes that nobody has read yet. A reader waits. */
		child_read(&reader, &e, FULL);
		EXPECT_TRUE(eventually(task_state(reader.pid) == 'D'))
			TH_LOG("the reader got %ld", reader.report->ret);
		EXPECT_EQ(KILLED(SIGKILL), child_kill(&reader));
		child_read(&reader, &e, FULL);
		EXPECT_TRUE(eventually(task_state(reader.pid) == 'D'));
		EXPECT_EQ(KILLED(SIGKILL), child_kill(&c));
		EXPECT_LT(0, child_join(&reader));
		ends_free(&e);
	}
}

/*
 * A transfer is blocked in a socket, and another one waits for it. They are killed in either order.
 * The bytes are in order.
 */
TEST_F_TIMEOUT(all, two_full_sockets, TIMEOUT)
{
	int first, second[2];

	if (!is_zpipe(variant->kind))
		SKIP(return, "the first one has to end before others can use the pipe");
	for (first = 0; first < 2; first++) {
		int s[2], size = 20000;
		long in, left, n, off;
		struct child c[2];
		struct ends e;

		ASSERT_EQ(0, ends_make(&e, variant->kind));
		ASSERT_EQ(0, open_ends(&e, 0));
		ASSERT_EQ(2 * FULL, set_capacity(variant->kind, e.fd[0], 2 * FULL));
		ASSERT_EQ(0, connect_sockets(false, s));
		ASSERT_EQ(0, connect_sockets(false, second));
		setsockopt(second[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
		/* The second socket is full of other bytes. */
		ASSERT_EQ(0, set_nonblock(second[1], true));
		while (stream_write(second[1], 0, 1000) > 0)
			;
		ASSERT_EQ(0, set_nonblock(second[1], false));
		in = blocked_in(_metadata, &e, s, &c[0]);
		ASSERT_EQ(FULL / 2, stream_write(e.fd[1], in, FULL / 2));
		in += FULL / 2;
		child_transfer(&c[1], &e, second[1], FULL, 0);
		ASSERT_TRUE(eventually(task_state(c[1].pid) == 'D'));
		EXPECT_EQ(KILLED(SIGKILL), child_kill(&c[first]));
		ASSERT_TRUE(first || child_asleep(&c[1]));
		EXPECT_EQ(KILLED(SIGKILL), child_kill(&c[!first]));
		left = fionread(e.fd[0]);
		ASSERT_LT(FULL / 2, left);
		for (off = in - left; off < in; off += n) {
			n = stream_read(e.fd[0], off, 2 * FULL);
			ASSERT_LT(0, n);
		}
		close(s[0]);
		close(s[1]);
		close(second[0]);
		close(second[1]);
		ends_free(&e);
	}
}

/* Pages that are in a socket do not change when the pipe is used again. */
TEST_F_TIMEOUT(all, pages_in_a_socket_do_not_change, TIMEOUT)
{
	static unsigned char bytes[PAGE];
	int i, rounds = is_zpipe(variant->kind) ? 20000 : 200;

	EACH_SOCKET {
		ASSERT_EQ(8 * PAGE, stream_write(self->e.fd[1], 0, 8 * PAGE));
		ASSERT_EQ(8 * PAGE, to(&self->e, s[1], 8 * PAGE, 0));
		memset(bytes, 0xee, sizeof(bytes));
		for (i = 0; i < rounds; i++) {
			ASSERT_EQ(PAGE, sys(write(self->e.fd[1], bytes, PAGE)));
			ASSERT_EQ(PAGE, sys(read(self->e.fd[0], bytes, PAGE)));
		}
		EXPECT_EQ(8 * PAGE, drain(s[0], 0, 8 * PAGE, FULL));
	}
}

/*
 * A command that waits for a socket has reserved slots, so a large write blocks. It is posted,
 * since there are other slots. When the reserved slots are free again, the write fits, and returns
 * although nobody reads. splice(2) holds the pipe's mutex meanwhile.
 */
TEST_F_TIMEOUT(all, write_beside_reserved_slots, TIMEOUT)
{
	const long begin = 24 * PAGE, len = DIRECT_MIN + 1000;
	bool zpipe = is_zpipe(variant->kind);

	ASSERT_EQ(4 * FULL, set_capacity(variant->kind, self->e.fd[1], 4 * FULL));
	EACH_SOCKET {
		for (int bytes = 10; bytes >= 0; bytes -= 10) {
			struct child c, w;
			long before = 0;

			if (zpipe)
				before = fdinfo_number(self->e.fd[0], "zpipe-posted-writes");
			ASSERT_EQ(begin, stream_write(self->e.fd[1], 0, begin));
			child_transfer(&c, &self->e, s[1], 4 * FULL - begin, CHILD_FROM);
			ASSERT_TRUE(child_asleep(&c));
			child_write_private(&w, &self->e, begin + bytes, len);
			/* A pipe(2) has it wait for the mutex, where it cannot be killed. */
			if (zpipe)
				ASSERT_TRUE(child_asleep(&w));
			ASSERT_EQ(bytes, stream_write(s[0], begin, bytes));
			if (!bytes)
				shutdown(s[0], SHUT_WR);
			EXPECT_EQ(bytes, child_join(&c));
			ASSERT_EQ(len, child_join(&w));
			if (zpipe)
				EXPECT_EQ(before + 1, fdinfo_number(self->e.fd[0],
								    "zpipe-posted-writes"));
			EXPECT_EQ(begin + bytes + len, drain(self->e.fd[0], 0,
							     begin + bytes + len, FULL));
		}
	}
}

/*
 * A command that waits for a socket has reserved all slots, so the pipe is full. Then it gets fewer
 * bytes, or none. Slots are free again, and a writer with O_ASYNC is notified.
 */
TEST_F_TIMEOUT(all, sigio_for_reserved_slots, TIMEOUT)
{
	int flags = fcntl(self->e.fd[1], F_GETFL);

	if (!is_zpipe(variant->kind))
		SKIP(return, "nobody can see that the pipe is full while its mutex is held");
	ASSERT_EQ(0, catch_signal(SIGIO, SA_RESTART));
	ASSERT_EQ(0, fcntl(self->e.fd[1], F_SETOWN, getpid()));
	EACH_SOCKET {
		for (int bytes = 10; bytes >= 0; bytes -= 10) {
			struct child c;

			ASSERT_EQ(0, fcntl(self->e.fd[1], F_SETFL, flags));
			child_transfer(&c, &self->e, s[1], FULL, CHILD_FROM);
			ASSERT_TRUE(child_asleep(&c));
			EXPECT_EQ(0, poll_mask(self->e.fd[1]));
			ASSERT_EQ(0, fcntl(self->e.fd[1], F_SETFL, flags | O_ASYNC));
			signals_seen = 0;
			ASSERT_EQ(bytes, stream_write(s[0], 0, bytes));
			if (!bytes)
				shutdown(s[0], SHUT_WR);
			EXPECT_EQ(bytes, child_join(&c));
			EXPECT_EQ(POLLOUT, poll_mask(self->e.fd[1]));
			EXPECT_TRUE(eventually(signals_seen == 1))
				TH_LOG("%d signals after %d bytes", signals_seen, bytes);
			EXPECT_EQ(bytes, drain(self->e.fd[0], 0, bytes, FULL));
		}
	}
}

/* A blocked large write goes through a socket into another pipe. */
TEST_F_TIMEOUT(all, large_write_through_a_socket, TIMEOUT)
{
	EACH_SOCKET {
		long in = 0, out = 0, n = 0;
		struct child c;
		struct ends e;

		ASSERT_EQ(0, ends_make(&e, variant->kind));
		ASSERT_EQ(0, open_ends(&e, 0));
		child_write(&c, &self->e, 0, MIB);
		ASSERT_TRUE(child_asleep(&c));
		ASSERT_EQ(0, set_nonblock(s[1], true));
		while (out < MIB) {
			if (in < MIB) {
				n = to(&self->e, s[1], 30000, 0);
				ASSERT_TRUE(n > 0 || n == -EAGAIN);
				in += n > 0 ? n : 0;
			}
			n = from(&e, s[0], 50000, 0);
			ASSERT_LT(0, n);
			ASSERT_EQ(n, drain(e.fd[0], out, n, FULL));
			out += n;
		}
		EXPECT_EQ(MIB, child_join(&c));
		ends_free(&e);
	}
}

TEST_HARNESS_MAIN
