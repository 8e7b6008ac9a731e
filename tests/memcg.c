// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who pays for what lies in a pipe: the memory cgroup of whoever wrote it, as
 * with the kernel's own pipes. Otherwise a pipe would be a way around its limit.
 */
#include "oracle.h"
#include "child.h"

#include <sys/mount.h>

#define MIB		(1L << 20)
#define LARGE		(8 * MIB)
/* What a process itself and the batches of each CPU may make of a difference. */
#define NOISE		(2 * MIB)

FIXTURE(memcg) {
	struct ends e;
	char root[40];
	char group[60];
};

FIXTURE_VARIANT(memcg) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(memcg, pipe) { .kind = PIPE };
FIXTURE_VARIANT_ADD(memcg, fifo) { .kind = FIFO };
FIXTURE_VARIANT_ADD(memcg, zpair) { .kind = ZPAIR };
FIXTURE_VARIANT_ADD(memcg, znode) { .kind = ZNODE };

/* Writes a line to a file of a cgroup. */
static int put(const char *dir, const char *name, const char *value)
{
	char path[100];
	int fd, ret;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = write(fd, value, strlen(value)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

static long get(const char *dir, const char *name)
{
	char path[100], buf[32] = "";
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, buf, sizeof(buf) - 1) < 0)
		return -errno;
	close(fd);
	return atol(buf);
}

FIXTURE_SETUP(memcg)
{
	ASSERT_EQ(0, ends_make(&self->e, variant->kind));
	ASSERT_EQ(0, open_ends(&self->e, 0));
	ASSERT_EQ(LARGE, set_capacity(variant->kind, self->e.fd[0], LARGE));
	ASSERT_EQ(0, unshare(CLONE_NEWNS));
	mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
	snprintf(self->root, sizeof(self->root), "/tmp/zpipe-cgroup.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->root));
	if (mount("cgroup2", self->root, "cgroup2", 0, NULL) ||
	    put(self->root, "cgroup.subtree_control", "+memory")) {
		self->group[0] = 0;
		SKIP(return, "no memory controller here");
	}
	snprintf(self->group, sizeof(self->group), "%s/zpipe-%d", self->root,
		 getpid());
	ASSERT_EQ(0, mkdir(self->group, 0755));
}

FIXTURE_TEARDOWN(memcg)
{
	ends_free(&self->e);
	if (self->group[0])
		rmdir(self->group);
	umount(self->root);
	rmdir(self->root);
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

	if (put(f->group, "cgroup.procs", "0"))
		return -1;
	for (done = 0; done < f->bytes; done += sizeof(buf))
		if (write(f->e->fd[1], buf, sizeof(buf)) != sizeof(buf))
			return -1;
	return done;
}

TEST_F_TIMEOUT(memcg, writer_pays_until_it_is_read, TIMEOUT)
{
	struct fill f = { &self->e, self->group, LARGE };
	struct child c;
	char *buf = malloc(LARGE);

	child_run(&c, fill_in_group, &f);
	ASSERT_EQ(LARGE, child_join(&c));
	/* The writer is gone, and pays all the same. */
	EXPECT_LT(LARGE - NOISE, get(self->group, "memory.current"));
	ASSERT_EQ(LARGE, read(self->e.fd[0], buf, LARGE));
	EXPECT_TRUE(eventually(get(self->group, "memory.current") < NOISE));
}

TEST_F_TIMEOUT(memcg, writer_pays_until_it_is_closed, TIMEOUT)
{
	struct fill f = { &self->e, self->group, LARGE };
	struct child c;

	child_run(&c, fill_in_group, &f);
	ASSERT_EQ(LARGE, child_join(&c));
	EXPECT_LT(LARGE - NOISE, get(self->group, "memory.current"));
	close_end(&self->e, 0);
	close_end(&self->e, 1);
	EXPECT_TRUE(eventually(get(self->group, "memory.current") < NOISE));
}

TEST_HARNESS_MAIN
