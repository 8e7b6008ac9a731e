/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory cgroups for one test, in a mount of its own. */
#ifndef CGROUP_H
#define CGROUP_H

#include "oracle.h"

#include <sched.h>
#include <sys/mount.h>

#define CGROUPS		2

struct cgroups {
	char root[40];
	char group[CGROUPS][60];
};

/*
 * Makes the cgroups; false if there is no memory controller. The caller calls cgroups_free() in
 * either case.
 */
static inline bool cgroups_make(struct cgroups *c)
{
	char path[sizeof(c->group[0])];
	int i;

	memset(c, 0, sizeof(*c));
	if (unshare(CLONE_NEWNS))
		return false;
	mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
	snprintf(c->root, sizeof(c->root), "/tmp/zpipe-cgroup.XXXXXX");
	if (!mkdtemp(c->root) || mount("cgroup2", c->root, "cgroup2", 0, NULL) ||
	    write_line(c->root, "cgroup.subtree_control", "+memory"))
		return false;
	for (i = 0; i < CGROUPS; i++) {
		snprintf(path, sizeof(path), "%s/zpipe-%d-%d", c->root,
			 getpid(), i);
		if (mkdir(path, 0755))
			return false;
		memcpy(c->group[i], path, sizeof(path));
	}
	return true;
}

static inline void cgroups_free(struct cgroups *c)
{
	int i;

	for (i = 0; i < CGROUPS; i++)
		if (c->group[i][0])
			rmdir(c->group[i]);
	umount(c->root);
	rmdir(c->root);
}

/* Moves the caller into the cgroup; 0 or -errno. */
static inline int cgroup_enter(const char *group)
{
	return write_line(group, "cgroup.procs", "0");
}

/*
 * A number in a file of the cgroup, or -1. If @key is not empty, the number is the one behind
 * it.
 */
static inline long cgroup_number(const char *group, const char *name,
				 const char *key)
{
	char path[100];

	snprintf(path, sizeof(path), "%s/%s", group, name);
	return number_in(path, key);
}

#endif /* CGROUP_H */
