// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memory cgroup of a writer is charged for the bytes that lie in a pipe, as with the
 * kernel's own pipes. Otherwise a pipe would be a way around the cgroup's limit.
 */
#include "cgroup.h"
#include "child.h"

#define MIB		(1L << 20)
#define LARGE		(8 * MIB)
/* Bytes that a charge may vary by, for the process itself and for batches of each processor. */
#define NOISE		(2 * MIB)

FIXTURE(memcg) {
	struct ends e;
	struct cgroups cgroups;
	const char *group;
};

FIXTURE_VARIANT(memcg) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(memcg, pipe) { .kind = PIPE };
FIXTURE_VARIANT_ADD(memcg, fifo) { .kind = FIFO };
FIXTURE_VARIANT_ADD(memcg, zpair) { .kind = ZPAIR };
FIXTURE_VARIANT_ADD(memcg, znode) { .kind = ZNODE };

static long charged(const char *group)
{
	return cgroup_number(group, "memory.current", "");
}

FIXTURE_SETUP(memcg)
{
	ASSERT_EQ(0, ends_make(&self->e, variant->kind));
	ASSERT_EQ(0, open_ends(&self->e, 0));
	ASSERT_EQ(LARGE, set_capacity(variant->kind, self->e.fd[0], LARGE));
	if (!cgroups_make(&self->cgroups))
		SKIP(return, "no memory controller here");
	self->group = self->cgroups.group[0];
}

FIXTURE_TEARDOWN(memcg)
{
	ends_free(&self->e);
	cgroups_free(&self->cgroups);
}

struct fill {
	struct ends *e;
	const char *group;
	long bytes;
};

static long fill_in_group(struct child *c)
{
	struct fill *f = c->arg;
	static char buf[MIB / 4];
	long done;

	if (cgroup_enter(f->group))
		return -1;
	for (done = 0; done < f->bytes; done += sizeof(buf))
		if (write(f->e->fd[1], buf, sizeof(buf)) != sizeof(buf))
			return -1;
	return done;
}

TEST_F_TIMEOUT(memcg, writer_is_charged_until_it_is_read, TIMEOUT)
{
	struct fill f = { &self->e, self->group, LARGE };
	struct child c;
	char *buf = malloc(LARGE);

	child_run(&c, fill_in_group, &f);
	ASSERT_EQ(LARGE, child_join(&c));
	/* The writer has exited, and its cgroup is still charged. */
	EXPECT_LT(LARGE - NOISE, charged(self->group));
	ASSERT_EQ(LARGE, read(self->e.fd[0], buf, LARGE));
	EXPECT_TRUE(eventually(charged(self->group) < NOISE));
}

TEST_F_TIMEOUT(memcg, writer_is_charged_until_it_is_closed, TIMEOUT)
{
	struct fill f = { &self->e, self->group, LARGE };
	struct child c;

	child_run(&c, fill_in_group, &f);
	ASSERT_EQ(LARGE, child_join(&c));
	EXPECT_LT(LARGE - NOISE, charged(self->group));
	close_end(&self->e, 0);
	close_end(&self->e, 1);
	EXPECT_TRUE(eventually(charged(self->group) < NOISE));
}

TEST_HARNESS_MAIN
