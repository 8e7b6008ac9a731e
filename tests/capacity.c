// SPDX-License-Identifier: GPL-2.0-only
/*
 * The capacity of a pipe: setting and getting it, the bytes that a resize
 * keeps, and limits on unprivileged users. The oracle is pipe_set_size() and
 * alloc_pipe_info().
 */
#include "oracle.h"
#include "child.h"
#include "model.h"

#define FULL		(SLOTS * PAGE)
#define MIB		(1L << 20)

/*
 * A user without pipes, and the default limit on pages in such a user's pipes.
 */
#define LONER		54321
#define SOFT_LIMIT	16384

TEST_F_TIMEOUT(all, default_is_sixteen_slots, TIMEOUT)
{
	EXPECT_EQ(FULL, get_capacity(variant->kind, self->e.fd[0]));
	EXPECT_EQ(FULL, get_capacity(variant->kind, self->e.fd[1]));
}

TEST_F_TIMEOUT(all, set_rounds_up_to_a_power_of_two_pages, TIMEOUT)
{
	static const long table[][2] = {
		{ 0, PAGE }, { 1, PAGE }, { PAGE, PAGE },
		{ PAGE + 1, 2 * PAGE }, { 2 * PAGE + 1, 4 * PAGE },
		{ 5 * PAGE, 8 * PAGE }, { 100000, 131072 },
		{ MIB - 1, MIB }, { MIB, MIB }, { 1, PAGE },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		EXPECT_EQ(table[i][1], set_capacity(variant->kind,
						    self->e.fd[0],
						    table[i][0]));
		EXPECT_EQ(table[i][1], get_capacity(variant->kind,
						    self->e.fd[1]));
	}
}

TEST_F_TIMEOUT(all, set_through_the_write_end, TIMEOUT)
{
	EXPECT_EQ(2 * PAGE, set_capacity(variant->kind, self->e.fd[1],
					 2 * PAGE));
	EXPECT_EQ(2 * PAGE, get_capacity(variant->kind, self->e.fd[0]));
}

TEST_F_TIMEOUT(all, set_above_two_gib_einval, TIMEOUT)
{
	EXPECT_EQ(-EINVAL, set_capacity(variant->kind, self->e.fd[0],
					(1UL << 31) + 1));
	EXPECT_EQ(FULL, get_capacity(variant->kind, self->e.fd[0]));
}

/*
 * DEVIATION: the argument of fcntl(2) has 32 bits, that of the ioctl has 64.
 * The ioctl refuses capacities that fcntl(2) truncates.
 */
TEST_F_TIMEOUT(all, set_above_four_gib, TIMEOUT)
{
	EXPECT_EQ(is_zpipe(variant->kind) ? -EINVAL : 2 * PAGE,
		  set_capacity(variant->kind, self->e.fd[0],
			       (1UL << 32) + 2 * PAGE));
}

TEST_F_TIMEOUT(all, capacity_is_what_fits, TIMEOUT)
{
	long n;

	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	for (n = PAGE; n <= 64 * PAGE; n *= 4) {
		ASSERT_EQ(n, set_capacity(variant->kind, self->e.fd[0], n));
		EXPECT_EQ(n, stream_write(self->e.fd[1], 0, 2 * n));
		EXPECT_EQ(-EAGAIN, stream_write(self->e.fd[1], 0, 1));
		EXPECT_EQ(n, stream_read(self->e.fd[0], 0, 2 * n));
	}
}

TEST_F_TIMEOUT(all, shrink_below_the_used_slots_ebusy, TIMEOUT)
{
	ASSERT_EQ(5 * PAGE, stream_write(self->e.fd[1], 0, 5 * PAGE));
	EXPECT_EQ(-EBUSY, set_capacity(variant->kind, self->e.fd[0], 4 * PAGE));
	EXPECT_EQ(FULL, get_capacity(variant->kind, self->e.fd[0]));
	EXPECT_EQ(8 * PAGE, set_capacity(variant->kind, self->e.fd[0],
					 8 * PAGE));
	EXPECT_EQ(5 * PAGE, stream_read(self->e.fd[0], 0, FULL));
}

/* Used slots count, not bytes: a slot with one byte left is used. */
TEST_F_TIMEOUT(all, shrink_counts_slots, TIMEOUT)
{
	ASSERT_EQ(3 * PAGE, stream_write(self->e.fd[1], 0, 3 * PAGE));
	ASSERT_EQ(PAGE - 1, stream_read(self->e.fd[0], 0, PAGE - 1));
	EXPECT_EQ(-EBUSY, set_capacity(variant->kind, self->e.fd[0], 2 * PAGE));
	ASSERT_EQ(1, stream_read(self->e.fd[0], PAGE - 1, 1));
	EXPECT_EQ(2 * PAGE, set_capacity(variant->kind, self->e.fd[0],
					 2 * PAGE));
}

TEST_F_TIMEOUT(all, shrink_to_exactly_the_used_slots, TIMEOUT)
{
	ASSERT_EQ(4 * PAGE, stream_write(self->e.fd[1], 0, 4 * PAGE));
	EXPECT_EQ(4 * PAGE, set_capacity(variant->kind, self->e.fd[0],
					 4 * PAGE));
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	EXPECT_EQ(-EAGAIN, stream_write(self->e.fd[1], 0, 1));
	EXPECT_EQ(4 * PAGE, stream_read(self->e.fd[0], 0, FULL));
}

/* The ring wraps around, and its first slot was read in part. */
TEST_F_TIMEOUT(all, resize_keeps_data_and_order, TIMEOUT)
{
	static const long sizes[] = { 32, 16, 64, 8, 4, 16 };
	long in = 0, out = 0;
	size_t i;

	ASSERT_EQ(12 * PAGE, stream_write(self->e.fd[1], in, 12 * PAGE));
	in += 12 * PAGE;
	ASSERT_EQ(10 * PAGE + 1, stream_read(self->e.fd[0], out, 10 * PAGE + 1));
	out += 10 * PAGE + 1;
	ASSERT_EQ(6 * PAGE, stream_write(self->e.fd[1], in, 6 * PAGE));
	in += 6 * PAGE;
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		ASSERT_EQ(sizes[i] * PAGE,
			  set_capacity(variant->kind, self->e.fd[0],
				       sizes[i] * PAGE));
		ASSERT_EQ(in - out, fionread(self->e.fd[0]));
		ASSERT_EQ(PAGE + 7, stream_read(self->e.fd[0], out, PAGE + 7));
		out += PAGE + 7;
	}
	EXPECT_EQ(in - out, stream_read(self->e.fd[0], out, FULL));
}

/* A write is merged into a slot that was written before the resize. */
TEST_F_TIMEOUT(all, resize_keeps_merging, TIMEOUT)
{
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	ASSERT_EQ(PAGE, set_capacity(variant->kind, self->e.fd[0], PAGE));
	EXPECT_EQ(PAGE - 100, stream_write(self->e.fd[1], 100, PAGE - 100));
	EXPECT_EQ(-EAGAIN, stream_write(self->e.fd[1], 0, 1));
	EXPECT_EQ(PAGE, stream_read(self->e.fd[0], 0, FULL));
}

TEST_F_TIMEOUT(all, growing_frees_a_blocked_writer, TIMEOUT)
{
	struct child c;

	child_write(&c, &self->e, 0, 2 * FULL);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(2 * FULL, set_capacity(variant->kind, self->e.fd[0],
					 2 * FULL));
	EXPECT_EQ(2 * FULL, child_join(&c));
	EXPECT_EQ(2 * FULL, stream_read(self->e.fd[0], 0, 2 * FULL));
}

TEST_F_TIMEOUT(all, growing_makes_writable, TIMEOUT)
{
	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	ASSERT_EQ(0, poll_mask(self->e.fd[1]));
	ASSERT_EQ(2 * FULL, set_capacity(variant->kind, self->e.fd[0],
					 2 * FULL));
	EXPECT_EQ(POLLOUT, poll_mask(self->e.fd[1]));
}

TEST_F_TIMEOUT(all, capacity_of_a_full_pipe_with_a_blocked_writer, TIMEOUT)
{
	struct child c;

	child_write(&c, &self->e, 0, 2 * FULL);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(FULL, get_capacity(variant->kind, self->e.fd[0]));
	EXPECT_EQ(-EBUSY, set_capacity(variant->kind, self->e.fd[0], FULL / 2));
	EXPECT_TRUE(child_stays_asleep(&c));
	child_kill(&c);
}

TEST_F_TIMEOUT(named, capacity_ends_with_the_pipe, TIMEOUT)
{
	ASSERT_EQ(0, open_ends(&self->e, 0));
	ASSERT_EQ(PAGE, set_capacity(variant->kind, self->e.fd[0], PAGE));
	close_end(&self->e, 0);
	close_end(&self->e, 1);
	ASSERT_EQ(0, open_ends(&self->e, 0));
	EXPECT_EQ(FULL, get_capacity(variant->kind, self->e.fd[0]));
}

/* Becomes an unprivileged user that owns no pipe yet. */
static void become_loner(void)
{
	if (setgid(LONER) || setuid(LONER))
		_exit(99);
}

struct ask {
	struct ends *e;
	long bytes;
};

static long ask_as_loner(struct child *c)
{
	struct ask *a = c->arg;
	long ret;

	become_loner();
	ret = set_capacity(a->e->kind, a->e->fd[0], a->bytes);
	errno = -ret;
	return ret < 0 ? -1 : ret;
}

static long unprivileged_set(struct ends *e, long bytes)
{
	struct ask a = { e, bytes };
	struct child c;

	child_run(&c, ask_as_loner, &a);
	return child_join(&c);
}

TEST_F_TIMEOUT(all, unprivileged_up_to_one_mib, TIMEOUT)
{
	EXPECT_EQ(MIB, unprivileged_set(&self->e, MIB));
}

TEST_F_TIMEOUT(all, unprivileged_above_one_mib_eperm, TIMEOUT)
{
	EXPECT_EQ(-EPERM, unprivileged_set(&self->e, MIB + 1));
	EXPECT_EQ(FULL, get_capacity(variant->kind, self->e.fd[0]));
}

TEST_F_TIMEOUT(all, privileged_above_one_mib, TIMEOUT)
{
	EXPECT_EQ(2 * MIB, set_capacity(variant->kind, self->e.fd[0], 2 * MIB));
}

TEST_F_TIMEOUT(all, unprivileged_keeps_and_shrinks_a_larger_pipe, TIMEOUT)
{
	ASSERT_EQ(4 * MIB, set_capacity(variant->kind, self->e.fd[0], 4 * MIB));
	EXPECT_EQ(4 * MIB, unprivileged_set(&self->e, 4 * MIB));
	EXPECT_EQ(2 * MIB, unprivileged_set(&self->e, 2 * MIB));
	EXPECT_EQ(-EPERM, unprivileged_set(&self->e, 4 * MIB));
}

/*
 * The pages of all pipes of a user are counted together, whatever their kind.
 * The functions below run in a child as that user. They use up the user's limit
 * with pipes of one kind, and then open a pipe of another kind (the probe).
 */
struct hoard {
	enum kind hoarded;
	struct ends *probe;	/* of the same or another kind; not open */
	long pages;		/* pages to use before the probe */
	struct ends pipes[SOFT_LIMIT / 256 + 9];
	int nr;
};

/* Makes the nodes while the process is still privileged. */
static int hoard_prepare(struct hoard *h, enum kind kind)
{
	int i, err;

	h->hoarded = kind;
	for (i = 0; i < (int)ARRAY_SIZE(h->pipes); i++) {
		err = ends_make(&h->pipes[i], kind);
		if (err)
			return err;
	}
	return 0;
}

static void hoard_free(struct hoard *h)
{
	int i;

	for (i = 0; i < (int)ARRAY_SIZE(h->pipes); i++)
		ends_free(&h->pipes[i]);
}

static long hoard_fill(struct hoard *h)
{
	long left = h->pages, n, ret;

	for (; left > 0; left -= n) {
		struct ends *e = &h->pipes[h->nr++];

		for (n = 256; n > left; n /= 2)
			;
		ret = open_ends(e, 0);
		if (!ret)
			ret = set_capacity(e->kind, e->fd[0], n * PAGE);
		if (ret != n * PAGE) {
			errno = ret < 0 ? -ret : ERANGE;
			return -1;
		}
	}
	return 0;
}

static long probe_capacity(struct hoard *h)
{
	long ret = open_ends(h->probe, 0);

	if (!ret)
		ret = get_capacity(h->probe->kind, h->probe->fd[0]);
	errno = ret < 0 ? -ret : 0;
	return ret < 0 ? -1 : ret;
}

static long fill_then_open(struct child *c)
{
	struct hoard *h = c->arg;

	become_loner();
	if (hoard_fill(h))
		return -1;
	return probe_capacity(h);
}

static long fill_then_open_and_grow(struct child *c)
{
	struct hoard *h = c->arg;
	long ret;

	become_loner();
	if (hoard_fill(h) || probe_capacity(h) < 0)
		return -1;
	ret = set_capacity(h->probe->kind, h->probe->fd[0], 4 * PAGE);
	errno = ret < 0 ? -ret : 0;
	return ret < 0 ? -1 : ret;
}

static long fill_then_open_and_shrink(struct child *c)
{
	struct hoard *h = c->arg;
	long ret;

	become_loner();
	if (hoard_fill(h) || probe_capacity(h) != 2 * PAGE)
		return -1;
	ret = set_capacity(h->probe->kind, h->probe->fd[0], PAGE);
	errno = ret < 0 ? -ret : 0;
	return ret < 0 ? -1 : ret;
}

/* The capacity of the next pipe after shrinking the probe was refused. */
static long fill_fail_to_shrink_then_open(struct child *c)
{
	struct hoard *h = c->arg;
	struct ends *next;
	long ret;

	become_loner();
	if (hoard_fill(h) || probe_capacity(h) != FULL)
		return -1;
	stream_write(h->probe->fd[1], 0, 2 * PAGE);
	ret = set_capacity(h->probe->kind, h->probe->fd[0], PAGE);
	next = &h->pipes[h->nr++];
	if (ret != -EBUSY || open_ends(next, 0)) {
		errno = ERANGE;
		return -1;
	}
	return get_capacity(next->kind, next->fd[0]);
}

static long fill_free_then_open(struct child *c)
{
	struct hoard *h = c->arg;

	become_loner();
	if (hoard_fill(h))
		return -1;
	while (h->nr--) {
		close_end(&h->pipes[h->nr], 0);
		close_end(&h->pipes[h->nr], 1);
	}
	return probe_capacity(h);
}

static long hoard_run(enum kind hoarded, enum kind probed, long pages,
		      long (*fn)(struct child *c))
{
	struct hoard *h = calloc(1, sizeof(*h));
	struct ends probe;
	struct child c;
	long ret;

	ret = ends_make(&probe, probed);
	if (!ret)
		ret = hoard_prepare(h, hoarded);
	if (!ret) {
		h->probe = &probe;
		h->pages = pages;
		child_run(&c, fn, h);
		ret = child_join(&c);
	}
	hoard_free(h);
	ends_free(&probe);
	free(h);
	return ret;
}

FIXTURE(users) {
};

FIXTURE_VARIANT(users) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(users, pipe) { .kind = PIPE };
FIXTURE_VARIANT_ADD(users, fifo) { .kind = FIFO };
FIXTURE_VARIANT_ADD(users, zpair) { .kind = ZPAIR };
FIXTURE_VARIANT_ADD(users, znode) { .kind = ZNODE };

FIXTURE_SETUP(users)
{
}

FIXTURE_TEARDOWN(users)
{
}

TEST_F_TIMEOUT(users, within_the_limit_a_pipe_is_whole, TIMEOUT)
{
	EXPECT_EQ(FULL, hoard_run(PIPE, variant->kind, SOFT_LIMIT - 256,
				  fill_then_open));
}

TEST_F_TIMEOUT(users, above_the_limit_a_pipe_has_two_slots, TIMEOUT)
{
	EXPECT_EQ(2 * PAGE, hoard_run(PIPE, variant->kind, SOFT_LIMIT,
				      fill_then_open));
}

TEST_F_TIMEOUT(users, above_the_limit_by_its_own_kind, TIMEOUT)
{
	EXPECT_EQ(2 * PAGE, hoard_run(variant->kind, variant->kind, SOFT_LIMIT,
				      fill_then_open));
}

TEST_F_TIMEOUT(users, it_counts_against_real_pipes, TIMEOUT)
{
	EXPECT_EQ(2 * PAGE, hoard_run(variant->kind, PIPE, SOFT_LIMIT,
				      fill_then_open));
}

TEST_F_TIMEOUT(users, growing_above_the_limit_eperm, TIMEOUT)
{
	EXPECT_EQ(-EPERM, hoard_run(PIPE, variant->kind, SOFT_LIMIT,
				    fill_then_open_and_grow));
}

TEST_F_TIMEOUT(users, shrinking_and_staying_above_the_limit, TIMEOUT)
{
	EXPECT_EQ(PAGE, hoard_run(PIPE, variant->kind, SOFT_LIMIT,
				  fill_then_open_and_shrink));
}

TEST_F_TIMEOUT(users, refused_shrinking_releases_nothing, TIMEOUT)
{
	/* With the probe the user has one page less than the limit. */
	EXPECT_EQ(2 * PAGE, hoard_run(variant->kind, variant->kind,
				      SOFT_LIMIT - SLOTS - 1,
				      fill_fail_to_shrink_then_open));
}

TEST_F_TIMEOUT(users, closing_releases_pages, TIMEOUT)
{
	EXPECT_EQ(FULL, hoard_run(variant->kind, variant->kind, SOFT_LIMIT,
				  fill_free_then_open));
}

TEST_F_TIMEOUT(users, shrinking_above_the_limit, TIMEOUT)
{
	struct ends e;

	/* Pages of privileged users are counted, but not limited. */
	ASSERT_EQ(0, ends_make(&e, variant->kind));
	ASSERT_EQ(0, open_ends(&e, 0));
	ASSERT_EQ((SOFT_LIMIT + 0L) * 2 * PAGE,
		  set_capacity(variant->kind, e.fd[0], SOFT_LIMIT * 2 * PAGE));
	EXPECT_EQ(PAGE, unprivileged_set(&e, PAGE));
	EXPECT_EQ(2 * PAGE, unprivileged_set(&e, 2 * PAGE));
	ends_free(&e);
}

/*
 * The value of a sysctl in /proc/sys/fs, or -errno. If @set is given, it is
 * written first.
 */
static long sysctl(const char *name, const char *set)
{
	char path[80], buf[32] = "";
	long ret;
	int fd;

	snprintf(path, sizeof(path), "/proc/sys/fs/%s", name);
	fd = open(path, set ? O_RDWR : O_RDONLY);
	if (fd < 0)
		return -errno;
	if (set && write(fd, set, strlen(set)) < 0)
		ret = -errno;
	else
		ret = pread(fd, buf, sizeof(buf) - 1, 0) < 0 ? -errno : atol(buf);
	close(fd);
	return ret;
}

/*
 * DEVIATION: the sysctls limit only the kernel's own pipes, because a module
 * cannot read them. zpipe has parameters for these limits; see limits.c.
 */
TEST_F_TIMEOUT(users, sysctl_pipe_max_size, TIMEOUT)
{
	struct ends e;

	ASSERT_EQ(0, ends_make(&e, variant->kind));
	ASSERT_EQ(0, open_ends(&e, 0));
	EXPECT_EQ(2 * FULL, sysctl("pipe-max-size", "131072"));
	EXPECT_EQ(is_zpipe(variant->kind) ? MIB : -EPERM,
		  unprivileged_set(&e, MIB));
	EXPECT_EQ(MIB, sysctl("pipe-max-size", "1048576"));
	ends_free(&e);
}

TEST_F_TIMEOUT(users, sysctl_pipe_user_pages_soft, TIMEOUT)
{
	EXPECT_EQ(10, sysctl("pipe-user-pages-soft", "10"));
	EXPECT_EQ(is_zpipe(variant->kind) ? FULL : 2 * PAGE,
		  hoard_run(PIPE, variant->kind, 0, fill_then_open));
	EXPECT_EQ(SOFT_LIMIT, sysctl("pipe-user-pages-soft", "16384"));
}

TEST_F_TIMEOUT(users, sysctl_pipe_user_pages_hard, TIMEOUT)
{
	long want = variant->kind == PIPE ? -ENFILE :
		    variant->kind == FIFO ? -ENOMEM : FULL;

	EXPECT_EQ(1, sysctl("pipe-user-pages-hard", "1"));
	EXPECT_EQ(want, hoard_run(PIPE, variant->kind, 0, fill_then_open));
	EXPECT_EQ(0, sysctl("pipe-user-pages-hard", "0"));
}

/*
 * FIONREAD of a large pipe with few used slots. Over the test every slot of the
 * ring is used several times.
 */
TEST_F_TIMEOUT(all, fionread_of_few_slots_of_many, TIMEOUT)
{
	struct model m = { .max = MODEL_SLOTS };
	unsigned long dice = 42;
	long in = 0, out = 0, n, len;
	int i;

	ASSERT_EQ(MODEL_SLOTS * PAGE, set_capacity(variant->kind,
						   self->e.fd[0],
						   MODEL_SLOTS * PAGE));
	ASSERT_EQ(0, set_nonblock(self->e.fd[0], true));
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	for (i = 0; i < 6 * MODEL_SLOTS; i++) {
		len = rnd_len(&dice, 3 * PAGE);
		n = model_write(&m, len, false);
		ASSERT_EQ(n, stream_write(self->e.fd[1], in, len));
		in += n;
		ASSERT_EQ(in - out, model_fionread(&m));
		ASSERT_EQ(in - out, fionread(self->e.fd[0]));
		/* Up to five slots stay used. */
		while (m.head - m.tail > rnd(&dice) % 6) {
			len = rnd_len(&dice, 3 * PAGE);
			n = model_read(&m, len);
			ASSERT_EQ(n, stream_read(self->e.fd[0], out, len));
			out += n;
			ASSERT_EQ(in - out, fionread(self->e.fd[0]));
		}
	}
	EXPECT_LT(4 * MODEL_SLOTS, m.head);
}

/*
 * A posted write stands behind a few used slots. As many of its bytes as fit
 * into the free slots are announced.
 */
TEST_F_TIMEOUT(all, fionread_of_few_slots_and_a_waiting_writer, TIMEOUT)
{
	long few = 3 * PAGE + 10, left = few + 252 * PAGE, off = 0;
	static const long steps[] = { 10, PAGE, 5 * PAGE, 100, PAGE - 100 };
	struct child c;
	size_t i;

	ASSERT_EQ(MIB, set_capacity(variant->kind, self->e.fd[0], MIB));
	/*
	 * So that the used slots do not begin with the first slot of the ring.
	 */
	ASSERT_EQ(9 * PAGE, stream_write(self->e.fd[1], 0, 9 * PAGE));
	ASSERT_EQ(9 * PAGE, stream_read(self->e.fd[0], 0, 9 * PAGE));
	ASSERT_EQ(few, stream_write(self->e.fd[1], 0, few));
	child_write(&c, &self->e, few, 3 * MIB);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(left, fionread(self->e.fd[0]));
	/* After these only bytes of the posted write are announced. */
	ASSERT_EQ(few, stream_read(self->e.fd[0], 0, few));
	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		ASSERT_TRUE(child_asleep(&c));
		EXPECT_EQ(MIB - off % PAGE, fionread(self->e.fd[0]));
		ASSERT_EQ(steps[i], stream_read(self->e.fd[0], few + off,
						steps[i]));
		off += steps[i];
	}
	child_kill(&c);
}

TEST_HARNESS_MAIN
