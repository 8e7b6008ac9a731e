/* SPDX-License-Identifier: GPL-2.0-only */
/* Makes a private pair as pipe2(2) does, for the demo's programs. */
#ifndef ZPIPE_DEMO_ZPIPE2_H
#define ZPIPE_DEMO_ZPIPE2_H

#include <fcntl.h>
#include <linux/zpipe.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

static inline void fail(const char *what)
{
	perror(what);
	exit(1);
}

static inline void zpipe2(int fds[2], int flags)
{
	struct zpipe_pipe2 args = { .size = sizeof(args), .flags = flags };
	int control = open("/dev/zpipe-control", O_RDWR | O_CLOEXEC);

	if (control < 0 || ioctl(control, ZPIPE_IOC_PIPE2, &args))
		fail("/dev/zpipe-control");
	close(control);
	fds[0] = args.fds[0];
	fds[1] = args.fds[1];
}

#endif
