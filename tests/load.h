/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Loading and unloading the module. Needs root and /zpipe.ko.
 */
#ifndef ZPIPE_TESTS_LOAD_H
#define ZPIPE_TESTS_LOAD_H

#include "oracle.h"

#include <sys/syscall.h>

#define MODULE		"/zpipe.ko"

/*
 * The error of delete_module(2) for a module in use. Rmmod(8) reads the reference count
 * first and prints that the module is in use.
 */
#define IN_USE		(-EWOULDBLOCK)

static inline long load_with(const char *parameters)
{
	int fd = open(MODULE, O_RDONLY | O_CLOEXEC);
	long ret;

	if (fd < 0)
		return -errno;
	ret = sys(syscall(SYS_finit_module, fd, parameters, 0));
	close(fd);
	return ret;
}

static inline long load(void)
{
	return load_with("");
}

static inline long unload(void)
{
	return sys(syscall(SYS_delete_module, "zpipe", O_NONBLOCK));
}

/* Retries for a while, since a reference may be dropped shortly after the last close. */
static inline long unload_eventually(void)
{
	long ret;

	eventually((ret = unload()) != IN_USE);
	return ret;
}

#endif /* ZPIPE_TESTS_LOAD_H */
