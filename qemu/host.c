// SPDX-License-Identifier: GPL-2.0-only
/*
 * host [--timeout S] [--files FILE] [--verdict FILE] [--tty] CONSOLE-LOG QEMU...: starts QEMU with
 * the ports that init.c uses, passes the command's streams through immediately, and exits with the
 * command's exit status. With --verdict it writes a line about the kernel: "clean", "findings", or
 * "not looked at: " and the reason. Otherwise:
 *
 *   98	the guest died before its first process ran
 *   99	the kernel complained, or the guest died
 *  124	time-out
 *  125	QEMU did not start a guest
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { IN, OUT, ERR, FILES, RESULT, PORTS };

static struct port {
	const char *name;
	int sock;			/* the end of this program */
	int to;				/* where its bytes go; -1: nowhere */
	unsigned long long bytes, total;
} ports[PORTS] = {
	[IN]	 = { "in", -1, -1, 0, 0 },
	[OUT]	 = { "out", -1, 1, 0, 0 },
	[ERR]	 = { "err", -1, 2, 0, 0 },
	[FILES]	 = { "files", -1, -1, 0, 0 },
	[RESULT] = { "result", -1, -1, 0, 0 },
};

static bool done, timed_out, found, started;
static int status = -1;
static char buf[64 * 1024];

static void fail(int code, const char *text)
{
	fprintf(stderr, "zpipe: qemu: %s: %s\n", text, strerror(errno));
	exit(code);
}

static void result_line(char *line)
{
	unsigned long long n;
	char name[16];

	if (!strncmp(line, "finding ", 8)) {
		found = true;
		fprintf(stderr, "zpipe: FOUND: %s\n", line + 8);
	} else if (!strncmp(line, "log ", 4)) {
		fprintf(stderr, "%s\n", line + 4);
	} else if (sscanf(line, "total %15s %llu", name, &n) == 2) {
		for (int i = 0; i < PORTS; i++) {
			if (!strcmp(name, ports[i].name))
				ports[i].total = n;
		}
	} else if (!strcmp(line, "timed-out")) {
		timed_out = true;
	} else if (!strcmp(line, "done")) {
		done = true;
	} else {
		sscanf(line, "status %d", &status);
	}
}

static void result_bytes(const char *text, size_t len)
{
	static char line[16 * 1024];
	static size_t used;

	for (size_t i = 0; i < len; i++) {
		if (text[i] != '\n') {
			if (used < sizeof(line) - 1)
				line[used++] = text[i];
			continue;
		}
		line[used] = '\0';
		used = 0;
		result_line(line);
	}
}

/* Returns false when QEMU has closed the port. */
static bool take(struct port *port)
{
	ssize_t n = read(port->sock, buf, sizeof(buf)), at, put;

	if (n <= 0)
		return false;
	started = true;
	port->bytes += n;
	if (port == &ports[RESULT])
		result_bytes(buf, n);
	for (at = 0; port->to >= 0 && at < n; at += put) {
		put = write(port->to, buf + at, n - at);
		if (put < 0)
			fail(125, port->name);
	}
	return true;
}

static bool complete(void)
{
	for (int i = OUT; i <= FILES; i++) {
		if (ports[i].bytes < ports[i].total)
			return false;
	}
	return done;
}

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/*
 * Passes bytes until the guest is done. Returns false if the guest does not get there. It
 * reads further input only after the guest has received all earlier input.
 */
static bool pass(long long deadline)
{
	static char input[64 * 1024];
	size_t have = 0, sent = 0;
	bool input_open = ports[IN].sock >= 0;
	struct pollfd fds[PORTS];
	ssize_t n;
	long long left;

	while (!complete() && !timed_out) {
		for (int i = 0; i < PORTS; i++)
			fds[i] = (struct pollfd){ .fd = ports[i].sock, .events = POLLIN };
		fds[IN].events = POLLOUT;
		if (!input_open)
			fds[IN].fd = -1;
		else if (sent == have)
			fds[IN] = (struct pollfd){ .fd = 0, .events = POLLIN };

		left = deadline ? deadline - now_ms() : -1;
		if (deadline && left < 0)
			return false;
		if (poll(fds, PORTS, left) < 0 && errno != EINTR)
			fail(125, "poll");

		if (input_open && fds[IN].revents && sent == have) {
			n = read(0, input, sizeof(input));
			sent = 0;
			have = n > 0 ? n : 0;
			if (n <= 0) {
				shutdown(ports[IN].sock, SHUT_WR);
				input_open = false;
			}
		} else if (input_open && fds[IN].revents) {
			n = send(ports[IN].sock, input + sent, have - sent,
				 MSG_DONTWAIT | MSG_NOSIGNAL);
			if (n > 0)
				sent += n;
			else if (errno != EAGAIN)
				input_open = false;
		}
		for (int i = OUT; i < PORTS; i++) {
			if (!fds[i].revents || take(&ports[i]))
				continue;
			close(ports[i].sock);
			ports[i].sock = -1;
			if (i == RESULT)
				return false;
		}
	}
	return true;
}

/* Starts QEMU with the arguments @argv and a socket for each port. */
static pid_t start(int argc, char **argv)
{
	char **args = calloc(argc + 4 * PORTS + 1, sizeof(*args));
	int fds[2], theirs[PORTS], n = 0;
	pid_t pid;

	for (int i = 0; i < argc; i++)
		args[n++] = argv[i];
	for (int i = 0; i < PORTS; i++) {
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
			fail(125, "socketpair");
		ports[i].sock = fds[0];
		theirs[i] = fds[1];
		fcntl(fds[0], F_SETFD, FD_CLOEXEC);
		args[n++] = "-chardev";
		if (asprintf(&args[n++], "socket,id=%s,fd=%d", ports[i].name, fds[1]) < 0)
			fail(125, "memory");
		args[n++] = "-device";
		if (asprintf(&args[n++], "virtserialport,chardev=%s,name=zpipe.%s",
			     ports[i].name, ports[i].name) < 0)
			fail(125, "memory");
	}
	pid = fork();
	if (pid < 0)
		fail(125, "fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execvp(args[0], args);
		fail(125, args[0]);
	}
	/* Only QEMU holds the other ends, so they close when it dies. */
	for (int i = 0; i < PORTS; i++)
		close(theirs[i]);
	return pid;
}

/* Prints the last lines that the kernel wrote to its console. */
static bool show_console(const char *path)
{
	int lines = 0, fd = open(path, O_RDONLY);
	struct stat st;
	ssize_t n, at;

	if (fd < 0 || fstat(fd, &st) || st.st_size == 0)
		return false;
	n = pread(fd, buf, sizeof(buf), st.st_size > (off_t)sizeof(buf) ?
		  st.st_size - (off_t)sizeof(buf) : 0);
	for (at = n - 1; at > 0 && lines < 120; at--)
		lines += buf[at] == '\n';
	fprintf(stderr, "zpipe: the end of the guest's console:\n");
	for (; at < n; at++) {
		if (buf[at] != '\r')
			fputc(buf[at], stderr);
	}
	return true;
}

/* Writes the verdict on the kernel. Exits if that fails: there must be no older one. */
static void write_verdict(const char *path, const char *verdict)
{
	FILE *file = fopen(path, "w");

	if (!file || fprintf(file, "%s\n", verdict) < 0 || fclose(file))
		fail(125, path);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "timeout", required_argument, NULL, 't' },
		{ "files", required_argument, NULL, 'f' },
		{ "verdict", required_argument, NULL, 'v' },
		{ "tty", no_argument, NULL, 'y' },
		{ }
	};
	bool tty = false, ended, shown;
	long long deadline = 0;
	const char *console, *verdict = "/dev/null";
	int opt, code = 0;
	pid_t pid;

	while ((opt = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (opt == 't' && strtol(optarg, NULL, 10) > 0)
			deadline = now_ms() + 1000 * strtol(optarg, NULL, 10);
		else if (opt == 'f')
			ports[FILES].to = open(optarg, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
		else if (opt == 'v')
			verdict = optarg;
		else if (opt == 'y')
			tty = true;
		else if (opt == '?')
			return 125;
	}
	if (argc - optind < 2)
		return 125;
	console = argv[optind];
	write_verdict(verdict, "not looked at: no guest");
	pid = start(argc - optind - 1, argv + optind + 1);
	if (tty) {
		/* The command uses QEMU's terminal. */
		close(ports[IN].sock);
		ports[IN].sock = -1;
	}

	ended = pass(deadline);
	if (!ended && deadline && now_ms() >= deadline) {
		fprintf(stderr, "zpipe: time-out; the stack of each process:\n");
		if (write(ports[RESULT].sock, "stop\n", 5) == 5)
			pass(now_ms() + 5000);
		if (!timed_out)
			show_console(console);
		code = 124;
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	write_verdict(verdict, found ? "findings" : ended ? "clean" :
		      code ? "not looked at: time-out" : "not looked at: the guest died");
	if (code)
		return code;
	if (ended)
		return found ? 99 : status;
	fprintf(stderr, "zpipe: the guest died\n");
	shown = show_console(console);
	if (started)
		return 99;
	return shown ? 98 : 125;
}
