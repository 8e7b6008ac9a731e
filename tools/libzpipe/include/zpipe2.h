/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * zpipe2(): a private pipe of zpipe(4). This header is all that it needs.
 *
 * With a fallback to the kernel's own pipes:
 *
 *	ret = zpipe2(fds, O_CLOEXEC) ? pipe2(fds, O_CLOEXEC) : 0;
 */
#ifndef ZPIPE2_H
#define ZPIPE2_H

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Makes a pipe as pipe2(2) does: fds[0] is the read end, fds[1] is the write end. Flags are those
 * of pipe2(2), and ZPIPE_BUFFER_ONLY of <linux/zpipe.h>. Returns 0, or -1 with errno set: as
 * pipe2(2), or as open(2) of /dev/zpipe-control, for example ENOENT if zpipe is not loaded.
 */
static inline int zpipe2(int fds[2], int flags)
{
	/* struct zpipe_pipe2 of <linux/zpipe.h>. */
	struct {
		unsigned int size, flags;
		int fds[2];
	} args;
	int control, ret, error;

#ifdef O_CLOEXEC
	control = open("/dev/zpipe-control", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
#else
	/* Plain C99 does not have the name. Its value is another one on a few architectures. */
	control = open("/dev/zpipe-control", O_RDWR | O_NOCTTY | O_NONBLOCK | 02000000);
#endif
	if (control < 0)
		return -1;
	args.size = sizeof(args);
	args.flags = (unsigned int)flags;
	args.fds[0] = -1;
	args.fds[1] = -1;
	ret = ioctl(control, 0xE900 /* ZPIPE_IOC_PIPE2 */, &args);
	error = errno;
	close(control);
	errno = error;
	if (ret < 0)
		return -1;
	fds[0] = args.fds[0];
	fds[1] = args.fds[1];
	return 0;
}

#ifdef __cplusplus
}
#endif

#endif /* ZPIPE2_H */
