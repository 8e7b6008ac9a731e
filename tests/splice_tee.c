// SPDX-License-Identifier: GPL-2.0-only
/*
 * Transfers between two zpipes by commands: TEE, SPLICE_TO and SPLICE_FROM. Over the kernel's own
 * pipes the same is tee(2) and splice(2). Then the arguments that these commands refuse.
 */
#include "splice_files.h"

/* Two pipes of the variant. */
FIXTURE(two) {
	struct ends e;
	struct ends other;
};

FIXTURE_VARIANT(two) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(two, pipe) { .kind = PIPE };
FIXTURE_VARIANT_ADD(two, fifo) { .kind = FIFO };
FIXTURE_VARIANT_ADD(two, zpair) { .kind = ZPAIR };
FIXTURE_VARIANT_ADD(two, znode) { .kind = ZNODE };

FIXTURE_SETUP(two)
{
	ASSERT_EQ(0, ends_make(&self->e, variant->kind));
	ASSERT_EQ(0, open_ends(&self->e, 0));
	ASSERT_EQ(0, ends_make(&self->other, variant->kind));
	ASSERT_EQ(0, open_ends(&self->other, 0));
}

FIXTURE_TEARDOWN(two)
{
	ends_free(&self->e);
	ends_free(&self->other);
}

static long tee_to(struct ends *e, int fd, size_t len, unsigned int flags)
{
	struct zpipe_splice arg = {
		.size = sizeof(arg), .flags = flags, .fd = fd, .bytes = len, .side = 99,
	};
	long ret;

	if (!is_zpipe(e->kind))
		return sys(tee(e->fd[0], fd, len, flags & ZPIPE_NONBLOCK ? SPLICE_F_NONBLOCK : 0));
	ret = sys(ioctl(e->fd[0], ZPIPE_IOC_TEE, &arg));
	side = arg.side;
	return ret ?: (long)arg.bytes;
}

/* Transfers by one of the three commands. Of TEE the bytes are then read from the source. */
enum how {
	BY_TO,
	BY_FROM,
	BY_TEE,
};

static long by(enum how how, struct ends *e, struct ends *other, size_t len, unsigned int flags)
{
	switch (how) {
	case BY_TO:
		return to(e, other->fd[1], len, flags);
	case BY_FROM:
		return from(other, e->fd[0], len, flags);
	default:
		return tee_to(e, other->fd[1], len, flags);
	}
}

#define EACH_WAY	for (enum how how = BY_TO; how <= BY_TEE; how++)

TEST_F_TIMEOUT(two, bytes_are_exact, TIMEOUT)
{
	static const size_t lens[] = { 1, 100, PAGE - 1, PAGE, PAGE + 1, 20000, FULL };
	unsigned int i, j;

	EACH_WAY {
		for (i = 0; i < ARRAY_SIZE(lens); i++) {
			for (j = 0; j < ARRAY_SIZE(lens); j++) {
				size_t want = lens[i] < lens[j] ? lens[i] : lens[j];

				ASSERT_EQ(lens[i], stream_write(self->e.fd[1], 0, lens[i]));
				ASSERT_EQ(want, by(how, &self->e, &self->other, lens[j], 0))
					TH_LOG("way %d: %zu of %zu", how, lens[j], lens[i]);
				ASSERT_EQ(want, stream_read(self->other.fd[0], 0, 2 * FULL));
				if (how == BY_TEE)
					want = 0;
				ASSERT_EQ(lens[i] - want, fionread(self->e.fd[0]));
				ASSERT_EQ(lens[i] - want,
					  want == lens[i] ? 0 :
					  stream_read(self->e.fd[0], want, 2 * FULL));
			}
		}
	}
}

TEST_F_TIMEOUT(two, as_far_as_slots_are_free, TIMEOUT)
{
	EACH_WAY {
		ASSERT_EQ(FULL - 2 * PAGE, stream_write(self->other.fd[1], 0, FULL - 2 * PAGE));
		ASSERT_EQ(3 * PAGE, stream_write(self->e.fd[1], FULL - 2 * PAGE, 3 * PAGE));
		EXPECT_EQ(2 * PAGE, by(how, &self->e, &self->other, FULL, 0));
		EXPECT_EQ(-EAGAIN, by(how, &self->e, &self->other, FULL, ZPIPE_NONBLOCK));
		EXPECT_EQ(FULL, stream_read(self->other.fd[0], 0, 2 * FULL));
		EXPECT_EQ(how == BY_TEE ? 3 * PAGE : PAGE,
			  sys(read(self->e.fd[0], malloc(FULL), FULL)));
	}
}

/* After a tee, writes are still appended to the last slot. */
TEST_F_TIMEOUT(two, write_behind_a_tee, TIMEOUT)
{
	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	ASSERT_EQ(100, tee_to(&self->e, self->other.fd[1], FULL, 0));
	ASSERT_EQ(100, stream_read(self->other.fd[0], 0, FULL));
	ASSERT_EQ(100, stream_write(self->e.fd[1], 100, 100));
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	EXPECT_EQ(FULL - PAGE, stream_write(self->e.fd[1], 200, FULL));
	EXPECT_EQ(FULL - PAGE + 200, stream_read(self->e.fd[0], 0, 2 * FULL));
}

TEST_F_TIMEOUT(two, eagain_and_end_of_file, TIMEOUT)
{
	EACH_WAY {
		EXPECT_EQ(-EAGAIN, by(how, &self->e, &self->other, 10, ZPIPE_NONBLOCK));
		EXPECT_SIDE(how == BY_FROM ? ZPIPE_SIDE_FILE : ZPIPE_SIDE_PIPE);
		ASSERT_EQ(FULL, stream_write(self->other.fd[1], 0, FULL));
		ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
		EXPECT_EQ(-EAGAIN, by(how, &self->e, &self->other, 10, ZPIPE_NONBLOCK));
		EXPECT_SIDE(how == BY_FROM ? ZPIPE_SIDE_PIPE : ZPIPE_SIDE_FILE);
		ASSERT_EQ(10, stream_read(self->e.fd[0], 0, 20));
		ASSERT_EQ(FULL, stream_read(self->other.fd[0], 0, FULL));
	}
	close_end(&self->e, 1);
	EACH_WAY {
		EXPECT_EQ(0, by(how, &self->e, &self->other, 10, 0));
		EXPECT_EQ(0, by(how, &self->e, &self->other, 10, ZPIPE_NONBLOCK));
	}
}

/* O_NONBLOCK of either file counts. */
TEST_F_TIMEOUT(two, o_nonblock, TIMEOUT)
{
	EACH_WAY {
		ASSERT_EQ(0, set_nonblock(self->e.fd[0], true));
		EXPECT_EQ(-EAGAIN, by(how, &self->e, &self->other, 10, 0));
		ASSERT_EQ(0, set_nonblock(self->e.fd[0], false));
		ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
		ASSERT_EQ(FULL, stream_write(self->other.fd[1], 0, FULL));
		ASSERT_EQ(0, set_nonblock(self->other.fd[1], true));
		EXPECT_EQ(-EAGAIN, by(how, &self->e, &self->other, 10, 0));
		ASSERT_EQ(0, set_nonblock(self->other.fd[1], false));
		ASSERT_EQ(10, stream_read(self->e.fd[0], 0, 20));
		ASSERT_EQ(FULL, stream_read(self->other.fd[0], 0, FULL));
	}
}

TEST_F_TIMEOUT(two, epipe, TIMEOUT)
{
	catch_signal(SIGPIPE, 0);
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	close_end(&self->other, 0);
	EACH_WAY {
		signals_seen = 0;
		EXPECT_EQ(-EPIPE, by(how, &self->e, &self->other, 10, 0));
		EXPECT_EQ(1, signals_seen);
	}
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, 20));
}

struct transfer {
	struct ends *e, *other;
	enum how how;
};

static long do_by(struct child *c)
{
	struct transfer *t = c->arg;
	long ret;

	close(t->e->fd[1]);
	close(t->other->fd[0]);
	ret = by(t->how, t->e, t->other, c->len, 0);
	errno = -ret;
	return ret < 0 ? -1 : ret;
}

static void child_by(struct child *c, struct transfer *t, size_t len)
{
	*c = (struct child) { .fn = do_by, .arg = t, .drop = -1, .len = len };
	c->nr = is_zpipe(t->e->kind) ? SYS_ioctl : t->how == BY_TEE ? SYS_tee : SYS_splice;
	child_start(c, 0);
}

TEST_F_TIMEOUT(two, waits, TIMEOUT)
{
	catch_signal(SIGUSR1, 0);
	EACH_WAY {
		struct transfer t = { &self->e, &self->other, how };
		struct child c;

		child_by(&c, &t, FULL);
		ASSERT_TRUE(child_asleep(&c)) TH_LOG("way %d", how);
		ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
		EXPECT_EQ(10, child_join(&c));
		ASSERT_EQ(10, stream_read(self->other.fd[0], 0, FULL));
		if (how == BY_TEE)
			ASSERT_EQ(10, stream_read(self->e.fd[0], 0, FULL));
		child_by(&c, &t, FULL);
		ASSERT_TRUE(child_asleep(&c));
		child_signal(&c, SIGUSR1);
		EXPECT_EQ(-EINTR, child_join(&c));
		ASSERT_EQ(FULL, stream_write(self->other.fd[1], 0, FULL));
		ASSERT_EQ(10, stream_write(self->e.fd[1], FULL, 10));
		child_by(&c, &t, FULL);
		ASSERT_TRUE(child_asleep(&c));
		/* Meanwhile both pipes can be used. */
		EXPECT_EQ(10, fionread(self->e.fd[0]));
		ASSERT_EQ(100, stream_read(self->other.fd[0], 0, 100));
		ASSERT_EQ(1, stream_write(self->e.fd[1], FULL + 10, 1));
		EXPECT_TRUE(child_stays_asleep(&c));
		ASSERT_EQ(FULL - 100, stream_read(self->other.fd[0], 100, FULL - 100));
		EXPECT_EQ(11, child_join(&c));
		ASSERT_EQ(11, stream_read(self->other.fd[0], FULL, FULL));
		if (how == BY_TEE)
			ASSERT_EQ(11, stream_read(self->e.fd[0], FULL, FULL));
		EXPECT_EQ(0, fionread(self->e.fd[0]));
	}
}

/* Announced bytes of a blocked write are transferred without waiting. */
TEST_F_TIMEOUT(two, announced_bytes_without_waiting, TIMEOUT)
{
	EACH_WAY {
		struct child c;
		long n;

		child_write(&c, &self->e, 0, MIB);
		ASSERT_TRUE(child_asleep(&c));
		n = by(how, &self->e, &self->other, FULL, ZPIPE_NONBLOCK);
		EXPECT_LT(0, n) TH_LOG("way %d", how);
		n = n < 0 ? 0 : n;
		if (n)
			ASSERT_EQ(n, stream_read(self->other.fd[0], 0, FULL));
		if (how == BY_TEE)
			n = 0;
		EXPECT_EQ(MIB - n, drain(self->e.fd[0], n, MIB - n, FULL));
		EXPECT_EQ(MIB, child_join(&c));
	}
}

/* A tee of bytes in the memory of a blocked writer. */
TEST_F_TIMEOUT(two, tee_of_a_blocked_write, TIMEOUT)
{
	struct child c;
	long n;

	child_write(&c, &self->e, 0, MIB);
	ASSERT_TRUE(child_asleep(&c));
	n = tee_to(&self->e, self->other.fd[1], MIB, 0);
	ASSERT_LT(0, n);
	EXPECT_GE(FULL, n);
	EXPECT_EQ(n, stream_read(self->other.fd[0], 0, MIB));
	EXPECT_EQ(MIB, drain(self->e.fd[0], 0, MIB, 70001));
	EXPECT_EQ(MIB, child_join(&c));
}

/* The copy does not change when the source is used again, and the other way round. */
TEST_F_TIMEOUT(two, tee_copies_stay, TIMEOUT)
{
	static unsigned char bytes[PAGE];
	int i;

	ASSERT_EQ(3 * PAGE, stream_write(self->e.fd[1], 0, 3 * PAGE));
	ASSERT_EQ(2 * PAGE, tee_to(&self->e, self->other.fd[1], 2 * PAGE, 0));
	ASSERT_EQ(3 * PAGE, stream_read(self->e.fd[0], 0, FULL));
	for (i = 0; i < 1000; i++) {
		memset(bytes, 0xee, PAGE);
		ASSERT_EQ(PAGE, sys(write(self->e.fd[1], bytes, PAGE)));
		ASSERT_EQ(PAGE, sys(read(self->e.fd[0], bytes, PAGE)));
	}
	ASSERT_EQ(2 * PAGE, stream_read(self->other.fd[0], 0, FULL));
	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	ASSERT_EQ(100, tee_to(&self->e, self->other.fd[1], 100, 0));
	ASSERT_EQ(100, stream_write(self->e.fd[1], 100, 100));
	ASSERT_EQ(10, stream_write(self->other.fd[1], 100, 10));
	EXPECT_EQ(200, stream_read(self->e.fd[0], 0, FULL));
	EXPECT_EQ(110, stream_read(self->other.fd[0], 0, FULL));
}

TEST_F_TIMEOUT(two, packets_of_a_tee, TIMEOUT)
{
	ASSERT_EQ(0, fcntl(self->e.fd[1], F_SETFL, O_DIRECT));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	ASSERT_EQ(20, stream_write(self->e.fd[1], 10, 20));
	EXPECT_EQ(30, tee_to(&self->e, self->other.fd[1], FULL, 0));
	EXPECT_EQ(10, stream_read(self->other.fd[0], 0, FULL));
	EXPECT_EQ(20, stream_read(self->other.fd[0], 10, FULL));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, FULL));
	EXPECT_EQ(20, stream_read(self->e.fd[0], 10, FULL));
}

/* Transfers between both pipes at the same time, in opposite directions and by all commands. */
static long around(struct child *c)
{
	struct transfer *t = c->arg;
	struct ends *e = c->flags & 1 ? t->other : t->e, *other = c->flags & 1 ? t->e : t->other;
	long ret;

	do
		ret = by(c->flags & 2 ? BY_TO : BY_FROM, e, other, 5000, 0);
	while (ret > 0);
	return 0;
}

TEST_F_TIMEOUT(two, opposite_directions, TIMEOUT)
{
	struct transfer t = { &self->e, &self->other, BY_TO };
	struct child c[4];
	long i, round;

	ASSERT_EQ(5 * PAGE, stream_write(self->e.fd[1], 0, 5 * PAGE));
	for (round = 0; round < 10; round++) {
		for (i = 0; i < 4; i++) {
			c[i] = (struct child) {
				.fn = around, .arg = &t, .drop = -1, .flags = i,
			};
			child_start(&c[i], 0);
		}
		usleep(30000);
		for (i = 0; i < 4; i++)
			EXPECT_EQ(KILLED(SIGKILL), child_kill(&c[i]));
		ASSERT_EQ(5 * PAGE, fionread(self->e.fd[0]) + fionread(self->other.fd[0]));
	}
}

static long transfer_on(struct child *c)
{
	struct transfer *t = c->arg;
	long ret;

	close(t->e->fd[1]);
	close(t->other->fd[0]);
	do
		ret = by(t->how, t->e, t->other, 5000, 0);
	while (ret > 0);
	return 0;
}

/* Two processes transfer at the same time. Each transfer is one step, so the order stays. */
TEST_F_TIMEOUT(two, order_of_two_transfers, TIMEOUT)
{
	struct transfer t = { &self->e, &self->other, BY_TO };
	struct child writer, c[2];
	long out = 0, n;
	int i;

	child_write(&writer, &self->e, 0, 4 * MIB);
	for (i = 0; i < 2; i++) {
		c[i] = (struct child) { .fn = transfer_on, .arg = &t, .drop = -1 };
		child_start(&c[i], 0);
	}
	close_end(&self->e, 0);
	close_end(&self->e, 1);
	close_end(&self->other, 1);
	while ((n = stream_read(self->other.fd[0], out, 30000)) > 0)
		out += n;
	EXPECT_EQ(0, n) TH_LOG("after %ld bytes", out);
	EXPECT_EQ(4 * MIB, out);
	close_end(&self->other, 0);
	for (i = 0; i < 2; i++)
		child_kill(&c[i]);
	child_kill(&writer);
}

TEST_F_TIMEOUT(two, same_pipe_einval, TIMEOUT)
{
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EACH_WAY {
		EXPECT_EQ(-EINVAL, by(how, &self->e, &self->e, 10, ZPIPE_NONBLOCK));
	}
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, 20));
}

TEST_F_TIMEOUT(two, wrong_ends_ebadf, TIMEOUT)
{
	struct ends swapped = { .kind = variant->kind, .fd = { self->e.fd[1], self->e.fd[0] } };
	struct ends other = {
		.kind = variant->kind, .fd = { self->other.fd[1], self->other.fd[0] },
	};

	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EACH_WAY {
		EXPECT_EQ(-EBADF, by(how, &swapped, &self->other, 10, 0));
		EXPECT_EQ(-EBADF, by(how, &self->e, &other, 10, 0));
	}
	EXPECT_EQ(-EBADF, tee_to(&self->e, 12345, 10, 0));
	EXPECT_EQ(10, fionread(self->e.fd[0]));
}

/* Arguments that only the commands have. */
TEST_F_TIMEOUT(two, refused_arguments, TIMEOUT)
{
	static const unsigned long cmds[] = {
		ZPIPE_IOC_SPLICE_TO, ZPIPE_IOC_SPLICE_FROM, ZPIPE_IOC_TEE,
	};
	int file = file_of(0, 100), real[2], dev = open("/dev/null", O_RDWR);
	unsigned int i, bit;

	if (!is_zpipe(variant->kind))
		SKIP(return, "no commands");
	ASSERT_EQ(0, pipe(real));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	ASSERT_EQ(10, stream_write(real[1], 0, 10));
	for (i = 0; i < 3; i++) {
		struct zpipe_splice good = {
			.size = sizeof(good), .fd = i == 2 ? self->other.fd[1] : file, .bytes = 10,
		}, arg;
		int fd = self->e.fd[i == 1];
		unsigned int ok = ZPIPE_NONBLOCK | (i == 0 ? ZPIPE_SPLICE_MORE : 0) |
				  (i < 2 ? ZPIPE_SPLICE_AT : 0);

		for (bit = 0; bit < 32; bit++) {
			if (ok & 1U << bit)
				continue;
			arg = good;
			arg.flags = 1U << bit;
			EXPECT_EQ(-EINVAL, sys(ioctl(fd, cmds[i], &arg)))
				TH_LOG("%u: bit %u", i, bit);
		}
		arg = good;
		arg.size = sizeof(arg) - 1;
		EXPECT_EQ(-EINVAL, sys(ioctl(fd, cmds[i], &arg)));
		arg = good;
		arg.size = PAGE + 1;
		EXPECT_EQ(-E2BIG, sys(ioctl(fd, cmds[i], &arg)));
		arg = good;
		arg.offset = 1;
		EXPECT_EQ(-EINVAL, sys(ioctl(fd, cmds[i], &arg)));
		arg = good;
		arg.fd = real[i != 1];
		EXPECT_EQ(-EINVAL, sys(ioctl(fd, cmds[i], &arg)));
		if (i == 2) {
			arg = good;
			arg.fd = dev;
			EXPECT_EQ(-EINVAL, sys(ioctl(fd, cmds[i], &arg)));
		}
		EXPECT_EQ(-EFAULT, sys(ioctl(fd, cmds[i], NULL)));
		EXPECT_EQ(-ENOTTY, sys(ioctl(file, cmds[i], &good)));
	}
	EXPECT_EQ(10, fionread(self->e.fd[0]));
	EXPECT_EQ(10, fionread(real[0]));
	EXPECT_EQ(0, fionread(self->other.fd[0]));
	EXPECT_EQ(0, position(file));
}

TEST_HARNESS_MAIN
