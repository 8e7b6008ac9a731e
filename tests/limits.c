// SPDX-License-Identifier: GPL-2.0-only
/*
 * The limits on pipes: three sysctls for the kernel's pipes, and three parameters of the module
 * for zpipe. The tests need root and /zpipe.ko. They leave the module loaded without parameters,
 * and the sysctls at their defaults.
 */
#include "oracle.h"
#include "child.h"
#include "load.h"

#define FULL		(SLOTS * PAGE)
#define LONER		4714		/* a user without privileges, who has no pipes */

/* Stands for the error of an open that a limit refuses. */
#define REFUSED		(-999999L)

static int put_sysctl(const char *name, const char *value)
{
	return write_line("/proc/sys/fs", name, value);
}

/* Sets the same limits for all kinds of pipes. */
static long put_limits(const char *max_size, const char *soft, const char *hard)
{
	char parameters[120];
	long ret;

	if (put_sysctl("pipe-max-size", max_size) ||
	    put_sysctl("pipe-user-pages-soft", soft) ||
	    put_sysctl("pipe-user-pages-hard", hard))
		return -EIO;
	ret = unload_eventually();
	if (ret)
		return ret;
	snprintf(parameters, sizeof(parameters),
		 "max_size=%s user_pages_soft=%s user_pages_hard=%s",
		 max_size, soft, hard);
	return load_with(parameters);
}

/* A step of a trial: opens a pipe, or sets its capacity. */
struct op {
	int pipe;
	long set;		/* capacity to set in bytes, or 0 to open */
	long want;		/* capacity after the step, or -errno */
};

#define OPEN(pipe, want)	{ pipe, 0, want }
#define SET(pipe, bytes, want)	{ pipe, bytes, want }

#define PIPES		80

static struct ends pipes[PIPES];

struct trial {
	const struct op *ops;
	int nr;
	bool privileged;
	long got[PIPES];
};

static long try_ops(struct child *c)
{
	struct trial *t = c->arg;
	int i;

	if (!t->privileged && (setgid(LONER) || setuid(LONER)))
		return -1;
	for (i = 0; i < t->nr; i++) {
		const struct op *op = &t->ops[i];
		struct ends *e = &pipes[op->pipe];

		if (op->set) {
			t->got[i] = set_capacity(e->kind, e->fd[0], op->set);
			continue;
		}
		t->got[i] = open_ends(e, 0);
		if (!t->got[i])
			t->got[i] = get_capacity(e->kind, e->fd[0]);
	}
	return 0;
}

/* Carries out the steps in one process, and checks the result of each step. */
static void run_ops(struct __test_metadata *_metadata, enum kind kind,
		    bool privileged, const struct op *ops, int nr)
{
	long refused = is_named(kind) ? -ENOMEM : -ENFILE;
	struct trial *t = shared_alloc(sizeof(*t));
	struct child c;
	int i;

	ASSERT_GE(PIPES, nr);
	t->ops = ops;
	t->nr = nr;
	t->privileged = privileged;
	for (i = 0; i < nr; i++)
		ASSERT_EQ(0, ends_make(&pipes[i], kind));
	child_run(&c, try_ops, t);
	EXPECT_EQ(0, child_join(&c));
	for (i = 0; i < nr; i++)
		EXPECT_EQ(ops[i].want == REFUSED ? refused : ops[i].want,
			  t->got[i])
			TH_LOG("step %d", i);
	for (i = 0; i < nr; i++)
		ends_free(&pipes[i]);
}

#define RUN(privileged, ...)						\
do {									\
	const struct op __ops[] = { __VA_ARGS__ };			\
									\
	run_ops(_metadata, variant->kind, privileged, __ops,		\
		ARRAY_SIZE(__ops));					\
} while (0)

#define LONER_DOES(...)	RUN(false, __VA_ARGS__)
#define ROOT_DOES(...)	RUN(true, __VA_ARGS__)

FIXTURE(limits) {
};

FIXTURE_VARIANT(limits) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(limits, pipe) { .kind = PIPE };
FIXTURE_VARIANT_ADD(limits, fifo) { .kind = FIFO };
FIXTURE_VARIANT_ADD(limits, zpair) { .kind = ZPAIR };
FIXTURE_VARIANT_ADD(limits, znode) { .kind = ZNODE };

FIXTURE_SETUP(limits)
{
	ASSERT_EQ(0, access(MODULE, R_OK));
}

FIXTURE_TEARDOWN(limits)
{
	EXPECT_EQ(0, put_limits("1048576", "16384", "0"));
	EXPECT_EQ(0, unload_eventually());
	EXPECT_EQ(0, load());
}

TEST_F_TIMEOUT(limits, one_pipe, TIMEOUT)
{
	ASSERT_EQ(0, put_limits("131072", "0", "0"));
	LONER_DOES(OPEN(0, FULL), SET(0, 2 * FULL, 2 * FULL),
		   SET(0, 2 * FULL + 1, -EPERM));
	ROOT_DOES(OPEN(0, FULL), SET(0, 4 * FULL, 4 * FULL));
}

TEST_F_TIMEOUT(limits, one_pipe_below_the_default, TIMEOUT)
{
	ASSERT_EQ(0, put_limits("8192", "0", "0"));
	LONER_DOES(OPEN(0, 2 * PAGE), SET(0, 2 * PAGE, 2 * PAGE),
		   SET(0, 4 * PAGE, -EPERM), SET(0, PAGE, PAGE));
	ROOT_DOES(OPEN(0, FULL));
}

TEST_F_TIMEOUT(limits, one_pipe_is_rounded_up, TIMEOUT)
{
	ASSERT_EQ(0, put_limits("8193", "0", "0"));
	LONER_DOES(OPEN(0, 4 * PAGE), SET(0, 8 * PAGE, -EPERM));
}

TEST_F_TIMEOUT(limits, one_pipe_has_a_page_at_least, TIMEOUT)
{
	ASSERT_EQ(0, put_limits("1", "0", "0"));
	LONER_DOES(OPEN(0, PAGE), SET(0, 2 * PAGE, -EPERM));
}

TEST_F_TIMEOUT(limits, one_pipe_above_two_gib_einval, TIMEOUT)
{
	EXPECT_EQ(-EINVAL, put_sysctl("pipe-max-size", "2147483649"));
	ASSERT_EQ(0, unload_eventually());
	EXPECT_EQ(-EINVAL, load_with("max_size=2147483649"));
	EXPECT_EQ(-EINVAL, load_with("max_size=4294967296"));
	EXPECT_EQ(-EINVAL, load_with("user_pages_soft=-1"));
	EXPECT_EQ(-ENOENT, unload());
	ASSERT_EQ(0, load_with("max_size=2147483648"));
}

TEST_F_TIMEOUT(limits, soft, TIMEOUT)
{
	ASSERT_EQ(0, put_limits("1048576", "32", "0"));
	LONER_DOES(OPEN(0, FULL), OPEN(1, FULL), OPEN(2, 2 * PAGE),
		   OPEN(3, 2 * PAGE), SET(3, 4 * PAGE, -EPERM),
		   SET(3, PAGE, PAGE), SET(0, PAGE, PAGE),
		   SET(3, 8 * PAGE, 8 * PAGE));
	ROOT_DOES(OPEN(0, FULL), OPEN(1, FULL), OPEN(2, FULL),
		  SET(2, 2 * FULL, 2 * FULL));
}

TEST_F_TIMEOUT(limits, hard, TIMEOUT)
{
	ASSERT_EQ(0, put_limits("1048576", "0", "32"));
	LONER_DOES(OPEN(0, FULL), OPEN(1, FULL), OPEN(2, REFUSED),
		   SET(1, 2 * FULL, -EPERM), SET(1, PAGE, PAGE),
		   OPEN(2, REFUSED), SET(0, 8 * PAGE, 8 * PAGE),
		   OPEN(2, FULL));
	ROOT_DOES(OPEN(0, FULL), OPEN(1, FULL), OPEN(2, FULL),
		  SET(2, 2 * FULL, 2 * FULL));
}

TEST_F_TIMEOUT(limits, soft_and_hard, TIMEOUT)
{
	ASSERT_EQ(0, put_limits("1048576", "16", "20"));
	LONER_DOES(OPEN(0, FULL), OPEN(1, 2 * PAGE), OPEN(2, 2 * PAGE),
		   OPEN(3, REFUSED), SET(1, PAGE, PAGE), OPEN(3, REFUSED),
		   SET(2, PAGE, PAGE), OPEN(3, 2 * PAGE));
}

/* Without limits a user may have more than by default. */
TEST_F_TIMEOUT(limits, none, TIMEOUT)
{
	struct op ops[PIPES];
	int i;

	ASSERT_EQ(0, put_limits("2097152", "0", "0"));
	for (i = 0; i < PIPES; i += 2) {
		ops[i] = (struct op)OPEN(i, FULL);
		ops[i + 1] = (struct op)SET(i, 2097152, 2097152);
	}
	run_ops(_metadata, variant->kind, false, ops, PIPES);
}

TEST_HARNESS_MAIN
