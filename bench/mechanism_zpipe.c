// SPDX-License-Identifier: GPL-2.0-only
/* zpipe: a private pair, a node, and zpipe with some features turned off. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/zpipe.h>

#include "bench.h"

#define CONTROL	"/dev/zpipe-control"
#define NODE	"/dev/zpipe"

static void note_capacity(struct channel *c)
{
	struct zpipe_capacity capacity = { .size = sizeof(capacity) };

	if (!ioctl(c->rx[0], ZPIPE_IOC_GET_CAPACITY, &capacity))
		c->capacity = capacity.bytes;
}

int zpipe_pair(struct channel *c, unsigned int flags)
{
	struct zpipe_pipe2 arg = { .size = sizeof(arg), .flags = O_CLOEXEC | flags };
	int control, ret;

	ret = module_for(c->mechanism);
	if (ret)
		return ret;
	control = open(CONTROL, O_RDWR | O_CLOEXEC);
	if (control < 0)
		return cannot("open of " CONTROL);
	ret = ioctl(control, ZPIPE_IOC_PIPE2, &arg);
	close(control);
	if (ret)
		return cannot("ZPIPE_IOC_PIPE2");
	take_ends(c, arg.fds);
	note_capacity(c);
	return 0;
}

static int open_zpipe(struct channel *c)
{
	return zpipe_pair(c, c->mechanism->arg);
}

static int open_large(struct channel *c)
{
	struct zpipe_capacity capacity = { .size = sizeof(capacity), .bytes = c->mechanism->arg };
	int ret = zpipe_pair(c, 0);

	if (ret)
		return ret;
	if (ioctl(c->rx[0], ZPIPE_IOC_SET_CAPACITY, &capacity))
		return cannot("ZPIPE_IOC_SET_CAPACITY");
	note_capacity(c);
	return 0;
}

/*
 * Each channel has a node of its own, in the directory of the module's node: device nodes
 * work there, whatever the mount options elsewhere. Only root may make one.
 */
static int open_node(struct channel *c)
{
	char dir[] = "/dev/zpipe-bench.XXXXXX", path[sizeof(dir) + 8];
	struct stat st;
	int ret;

	ret = module_for(c->mechanism);
	if (ret)
		return ret;
	if (stat(NODE, &st))
		return cannot(NODE);
	if (!mkdtemp(dir))
		return cannot("mkdtemp in /dev");
	snprintf(path, sizeof(path), "%s/node", dir);
	ret = mknod(path, S_IFCHR | 0600, st.st_rdev) ? cannot("mknod") :
							open_path(c, path);
	if (!ret)
		note_capacity(c);
	unlink(path);
	rmdir(dir);
	return ret;
}

const struct mechanism mechanism_zpipe = {
	STREAM, .open = open_zpipe, .spins = true,
	.name = "zpipe", .what = "private zpipe at its default",
};

const struct mechanism mechanism_zpipe_1m = {
	STREAM, .open = open_large, .arg = 1 << 20, .spins = true,
	.name = "zpipe-1m", .what = "private zpipe, 1 MiB",
};

const struct mechanism mechanism_zpipe_node = {
	STREAM, .open = open_node, .spins = true,
	.name = "zpipe-node", .what = NODE " at its default",
};

const struct mechanism mechanism_zpipe_nospin = {
	STREAM, .open = open_zpipe, .parameters = "spin_us=0",
	.name = "zpipe-nospin", .what = "zpipe that never spins: spin_us=0",
};

const struct mechanism mechanism_zpipe_nodirect = {
	STREAM, .open = open_zpipe, .arg = ZPIPE_BUFFER_ONLY, .spins = true,
	.name = "zpipe-nodirect", .what = "zpipe without direct transfers: ZPIPE_BUFFER_ONLY",
};

const struct mechanism mechanism_zpipe_neither = {
	STREAM, .open = open_zpipe, .arg = ZPIPE_BUFFER_ONLY, .parameters = "spin_us=0",
	.name = "zpipe-neither", .what = "neither spins nor transfers directly",
};
