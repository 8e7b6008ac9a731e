/* SPDX-License-Identifier: GPL-2.0-only */
/* Mounts of debugfs and tracefs, and traces of one pipe. */
#ifndef ZPIPE_TESTS_DEBUG_H
#define ZPIPE_TESTS_DEBUG_H

#include "oracle.h"

#include <sys/mount.h>
#include <sys/vfs.h>

#include <linux/magic.h>

#define DEBUGFS		"/sys/kernel/debug"
#define TRACEFS		"/sys/kernel/tracing"
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

/* A trace instance, with a buffer of its own, for a test of the pipe with the inode @st. */
struct trace {
	char dir[64];
	struct stat st;
};

/* Turns the events of the directory @events on or off. */
static inline int trace_enable(struct trace *t, const char *events, bool on)
{
	char name[64];

	snprintf(name, sizeof(name), "events/%s/enable", events);
	return write_line(t->dir, name, on ? "1" : "0");
}

/* Makes the instance and turns on all events of the module; 0 or -errno. */
static inline int trace_start(struct trace *t, const struct stat *st)
{
	int ret;

	t->dir[0] = 0;
	t->st = *st;
	ret = mount_once("tracefs", TRACEFS, TRACEFS_MAGIC);
	if (ret)
		return ret;
	snprintf(t->dir, sizeof(t->dir), TRACEFS "/instances/zpipe-%d",
		 getpid());
	if (mkdir(t->dir, 0700))
		return -errno;
	return trace_enable(t, "zpipe", true);
}

static inline void trace_end(struct trace *t)
{
	if (!t->dir[0])
		return;
	trace_enable(t, "zpipe", false);
	rmdir(t->dir);
}

/* The text of the trace. The caller frees it. */
static inline char *trace_text(struct trace *t)
{
	size_t used = 0, size = 1 << 20;
	char path[96], *text = malloc(size);
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/trace", t->dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && (n = read(fd, text + used, size - used - 1)) > 0) {
		used += n;
		size = used + (1 << 20);
		text = realloc(text, size);
	}
	if (fd >= 0)
		close(fd);
	text[used] = 0;
	return text;
}

#endif /* ZPIPE_TESTS_DEBUG_H */
