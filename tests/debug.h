/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * debugfs.
 */
#ifndef ZPIPE_TESTS_DEBUG_H
#define ZPIPE_TESTS_DEBUG_H

#include "oracle.h"

#include <sys/mount.h>
#include <sys/vfs.h>

#include <linux/magic.h>

#define DEBUGFS		"/sys/kernel/debug"
#define PIPES		DEBUGFS "/zpipe/pipes"

static inline int mount_once(const char *type, const char *dir, long magic)
{
	struct statfs fs;

	if (!statfs(dir, &fs) && fs.f_type == magic)
		return 0;
	return sys(mount(type, dir, type, 0, ""));
}

static inline int mount_debugfs(void)
{
	return mount_once("debugfs", DEBUGFS, DEBUGFS_MAGIC);
}

#endif /* ZPIPE_TESTS_DEBUG_H */
