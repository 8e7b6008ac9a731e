// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * pump MODE send ADDRESS PORT CMD...: runs CMD and moves its output to a TCP connection.
 * pump MODE receive PORT CMD...: runs CMD and moves the bytes of a TCP connection to its input.
 *
 * Between pump and CMD is a pipe. MODE says which one, and how the bytes move:
 *
 *  zpipe	a private pair, with ZPIPE_IOC_SPLICE_TO and ZPIPE_IOC_SPLICE_FROM
 *  zpipe-copy	a private pair, with read(2) and write(2)
 *  splice	pipe(2), with splice(2)
 *  copy	pipe(2), with read(2) and write(2)
 *
 * At the end it prints the number of bytes and the processor time of pump and of CMD, in
 * nanoseconds. It exits with 0 if CMD does and all bytes were moved.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/zpipe.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOVE_BYTES	(1 << 20)	/* to ask for in one call */
#define COPY_BYTES	(128 << 10)	/* of one read and one write */

static bool is_zpipe, copies;

static long splice_by(int end, unsigned int command, int other)
{
	struct zpipe_splice args = { .size = sizeof(args), .fd = other, .bytes = MOVE_BYTES };

	return ioctl(end, command, &args) ? -1 : (long)args.bytes;
}

static long copy(int from, int to)
{
	static char buf[COPY_BYTES];
	ssize_t n = read(from, buf, sizeof(buf)), done = 0, step;

	for (; done < n; done += step) {
		step = write(to, buf + done, n - done);
		if (step < 0)
			return -1;
	}
	return n;
}

/* Moves some bytes. Returns their number, 0 at the end of the data, or -1. */
static long move(int from, int to, bool sends)
{
	if (copies)
		return copy(from, to);
	if (!is_zpipe)
		return splice(from, NULL, to, NULL, MOVE_BYTES, 0);
	if (sends)
		return splice_by(from, ZPIPE_IOC_SPLICE_TO, to);
	return splice_by(to, ZPIPE_IOC_SPLICE_FROM, from);
}

static void make_pipe(int fds[2])
{
	struct zpipe_pipe2 args = { .size = sizeof(args), .flags = O_CLOEXEC };
	int control;

	if (!is_zpipe) {
		if (pipe2(fds, O_CLOEXEC))
			err(1, "pipe2");
		return;
	}
	control = open("/dev/zpipe-control", O_RDWR | O_CLOEXEC);
	if (control < 0 || ioctl(control, ZPIPE_IOC_PIPE2, &args))
		err(1, "/dev/zpipe-control");
	close(control);
	memcpy(fds, args.fds, sizeof(args.fds));
}

/* Connects to @ip, or, if that is NULL, waits for a connection. Retries for ten seconds. */
static int connection(const char *ip, const char *port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
	const struct timespec nap = { .tv_nsec = 20 * 1000 * 1000 };
	int fd, got, one = 1;

	if (ip && inet_pton(AF_INET, ip, &addr.sin_addr) != 1)
		errx(2, "%s is no address", ip);
	for (int tries = 0; tries < 500; tries++) {
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			err(1, "socket");
		if (ip && !connect(fd, (void *)&addr, sizeof(addr)))
			return fd;
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (!ip && !bind(fd, (void *)&addr, sizeof(addr)) && !listen(fd, 1)) {
			got = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
			if (got < 0)
				err(1, "accept");
			close(fd);
			return got;
		}
		close(fd);
		nanosleep(&nap, NULL);
	}
	err(1, "%s", ip ? ip : "bind");
}

/* Starts @cmd. @end becomes its descriptor @number. */
static pid_t start(char **cmd, int end, int number)
{
	pid_t pid = fork();

	if (pid < 0)
		err(1, "fork");
	if (pid)
		return pid;
	signal(SIGPIPE, SIG_DFL);
	if (dup2(end, number) < 0)
		err(1, "dup2");
	execvp(*cmd, cmd);
	err(127, "%s", *cmd);
}

/*
 * True if a move failed only because CMD has closed its input, and @sock has no more bytes. A
 * program that knows where its data ends need not read on until the pipe does.
 */
static bool ended_early(int sock)
{
	char byte;

	return errno == EPIPE && !recv(sock, &byte, 1, MSG_PEEK);
}

static unsigned long long cpu_ns(int who)
{
	struct rusage usage;

	getrusage(who, &usage);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000ULL +
	       (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000ULL;
}

static void parse_mode(const char *mode)
{
	is_zpipe = !strncmp(mode, "zpipe", 5);
	copies = !strcmp(mode, "copy") || !strcmp(mode, "zpipe-copy");
	if (!copies && strcmp(mode, "zpipe") && strcmp(mode, "splice"))
		errx(2, "no mode %s", mode);
}

int main(int argc, char **argv)
{
	bool sends = argc > 2 && !strcmp(argv[2], "send");
	unsigned long long total = 0;
	int fds[2], sock, status;
	pid_t pid;
	long n;

	if (argc < (sends ? 6 : 5) || (!sends && strcmp(argv[2], "receive")))
		errx(2, "pump MODE send ADDRESS PORT CMD... or pump MODE receive PORT CMD...");
	parse_mode(argv[1]);
	signal(SIGPIPE, SIG_IGN);
	make_pipe(fds);
	sock = connection(sends ? argv[3] : NULL, argv[sends ? 4 : 3]);
	pid = start(argv + (sends ? 5 : 4), fds[sends], sends);
	close(fds[sends]);
	while ((n = sends ? move(fds[0], sock, true) : move(sock, fds[1], false)) > 0)
		total += n;
	if (n && (sends || !ended_early(sock)))
		err(1, "after %llu bytes", total);
	close(sock);
	close(fds[!sends]);
	if (waitpid(pid, &status, 0) < 0)
		err(1, "waitpid");
	fprintf(stderr, "%llu %llu %llu\n", total, cpu_ns(RUSAGE_SELF), cpu_ns(RUSAGE_CHILDREN));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
