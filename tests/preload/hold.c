// SPDX-License-Identifier: GPL-2.0-only
/*
 * hold WHAT...: holds something of zpipe until its standard input ends, for tests of "zpipe
 * ls". It prints "ready" when it has all of it.
 *
 *	pair	both ends of a pair, with 5000 bytes in it; and a duplicate of the read end
 *	path	an O_PATH descriptor of a pair
 *	flight	a pair whose only descriptor is on its way through a socket
 *	window	a read window that is mapped
 *	mapping	the same without its descriptor
 *	control	the control device
 *	many	3000 open files of the control device
 *	acl	nothing; it gives /tmp/acl a default ACL, with rights for its user only
 *	ended	nothing more; its main thread ends, and another one waits
 */
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <linux/posix_acl_xattr.h>
#include <linux/zpipe.h>

/* Of the kernel's <uapi/linux/posix_acl.h>, which is not installed. */
#define ACL_UNDEFINED	(~0U)
#define USER_OBJ	0x01
#define GROUP_OBJ	0x04
#define OTHER		0x20

static int control(void)
{
	int fd = open("/dev/zpipe-control", O_RDWR);

	if (fd < 0)
		err(1, "zpipe-control");
	return fd;
}

static void pair(int fds[2])
{
	struct zpipe_pipe2 args = { .size = sizeof(args) };
	int fd = control();

	if (ioctl(fd, ZPIPE_IOC_PIPE2, &args))
		err(1, "ZPIPE_IOC_PIPE2");
	close(fd);
	fds[0] = args.fds[0];
	fds[1] = args.fds[1];
}

static void path(void)
{
	char name[40];
	int fds[2];

	pair(fds);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fds[0]);
	if (open(name, O_PATH) < 0)
		err(1, "O_PATH");
	close(fds[0]);
	close(fds[1]);
}

static void flight(void)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u;
	struct iovec iov = { "x", 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.buf,
			      .msg_controllen = sizeof(u.buf) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	int sock[2], fds[2];

	pair(fds);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sock))
		err(1, "socketpair");
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fds[0], sizeof(int));
	if (sendmsg(sock[0], &msg, 0) != 1)
		err(1, "sendmsg");
	close(fds[0]);
	close(fds[1]);
}

static void window(int only_mapping)
{
	struct zpipe_window args = { .size = sizeof(args), .flags = ZPIPE_WINDOW_READ,
				     .bytes = 4 << 20 };
	int fds[2];

	pair(fds);
	if (ioctl(fds[0], ZPIPE_IOC_WINDOW, &args))
		err(1, "ZPIPE_IOC_WINDOW");
	close(fds[0]);
	close(fds[1]);
	if (mmap(NULL, args.bytes, PROT_READ, MAP_SHARED, args.fd, 0) == MAP_FAILED)
		err(1, "mmap");
	if (only_mapping)
		close(args.fd);
}

static void many(void)
{
	struct rlimit limit;
	int i;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	for (i = 0; i < 3000; i++)
		control();
}

static void acl(void)
{
	struct posix_acl_xattr_entry *entry;
	struct {
		struct posix_acl_xattr_header header;
		struct posix_acl_xattr_entry entries[3];
	} acl = {
		{ POSIX_ACL_XATTR_VERSION },
		{ { USER_OBJ, 6 }, { GROUP_OBJ, 0 }, { OTHER, 0 } },
	};

	for (entry = acl.entries; entry < acl.entries + 3; entry++)
		entry->e_id = ACL_UNDEFINED;
	if (setxattr("/tmp/acl", "system.posix_acl_default", &acl, sizeof(acl), 0))
		err(1, "setxattr");
}

static void *wait_for_end(void *unused)
{
	char buf[64];

	puts("ready");
	fflush(stdout);
	while (read(0, buf, sizeof(buf)) > 0)
		;
	exit(0);
}

int main(int argc, char **argv)
{
	pthread_t thread;
	char buf[5000] = "";
	int i, fds[2];

	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "pair")) {
			pair(fds);
			if (write(fds[1], buf, sizeof(buf)) != sizeof(buf))
				err(1, "write");
			dup(fds[0]);
		} else if (!strcmp(argv[i], "path")) {
			path();
		} else if (!strcmp(argv[i], "flight")) {
			flight();
		} else if (!strcmp(argv[i], "window")) {
			window(0);
		} else if (!strcmp(argv[i], "mapping")) {
			window(1);
		} else if (!strcmp(argv[i], "control")) {
			control();
		} else if (!strcmp(argv[i], "many")) {
			many();
		} else if (!strcmp(argv[i], "acl")) {
			acl();
		} else if (!strcmp(argv[i], "ended")) {
			if (pthread_create(&thread, NULL, wait_for_end, NULL))
				errx(1, "pthread_create");
			pthread_exit(NULL);
		} else {
			errx(1, "%s?", argv[i]);
		}
	}
	wait_for_end(NULL);
}
