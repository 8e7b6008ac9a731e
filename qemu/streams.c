// SPDX-License-Identifier: GPL-2.0-only
/*
 * The command's standard streams. They are ordinary pipes: a port of the host can be open
 * only once, so a program that opens /dev/stdout again would fail. Threads relay the bytes.
 *
 * A write to a port returns before the host has received the bytes. So the host is told the
 * number of bytes.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "init.h"

struct relay {
	int from, to;
	unsigned long long bytes;
	pthread_t thread;
};

static struct relay in = { .from = -1 }, out = { .from = -1 }, err = { .from = -1 };

/* Finds a port by its name. The host may announce it only after init has started. */
int open_port(const char *name)
{
	const struct timespec tick = { .tv_nsec = 10 * 1000 * 1000 };
	char path[300], *text;
	struct dirent *entry;
	DIR *dir;
	int fd;

	for (int i = 0; i < 500; i++) {
		dir = opendir("/sys/class/virtio-ports");
		while (dir && (entry = readdir(dir))) {
			snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name",
				 entry->d_name);
			text = read_file(path, NULL);
			if (!text || strcspn(text, "\n") != strlen(name) ||
			    strncmp(text, name, strlen(name))) {
				free(text);
				continue;
			}
			free(text);
			snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
			fd = open(path, O_RDWR | O_CLOEXEC);
			if (fd >= 0) {
				closedir(dir);
				return fd;
			}
		}
		if (dir)
			closedir(dir);
		nanosleep(&tick, NULL);
	}
	fprintf(stderr, "init: no port %s\n", name);
	return -1;
}

static void *carry(void *arg)
{
	struct relay *relay = arg;
	static const size_t size = 64 * 1024;
	char *buf = malloc(size);
	ssize_t n = 0, done, put;

	while (buf && (n = read(relay->from, buf, size)) > 0) {
		for (done = 0; done < n; done += put) {
			put = write(relay->to, buf + done, n - done);
			if (put <= 0)
				goto end;
		}
		relay->bytes += n;
	}
end:
	free(buf);
	close(relay->from);
	close(relay->to);
	return NULL;
}

static void start_relay(struct relay *relay, int from, int to)
{
	relay->from = from;
	relay->to = to;
	if (pthread_create(&relay->thread, NULL, carry, relay))
		finding("no thread for the command's streams");
}

/* Never returns. */
static void start(char **argv, char **env)
{
	signal(SIGPIPE, SIG_DFL);
	environ = env;
	execvp(argv[0], argv);
	fprintf(stderr, "%s: %m\n", argv[0]);
	_exit(127);
}

pid_t start_on_pipes(char **argv, char **env)
{
	int i[2], o[2], e[2];
	pid_t pid;

	if (pipe2(i, O_CLOEXEC) || pipe2(o, O_CLOEXEC) || pipe2(e, O_CLOEXEC))
		return -1;
	pid = fork();
	if (!pid) {
		setsid();
		dup2(i[0], 0);
		dup2(o[1], 1);
		dup2(e[1], 2);
		start(argv, env);
	}
	close(i[0]);
	close(o[1]);
	close(e[1]);
	start_relay(&in, open_port("zpipe.in"), i[1]);
	start_relay(&out, o[0], open_port("zpipe.out"));
	start_relay(&err, e[0], open_port("zpipe.err"));
	return pid;
}

/* All writers have exited. Sends the rest of the pipes to the host. */
void finish_pipes(int result)
{
	if (out.from >= 0) {
		pthread_join(out.thread, NULL);
		dprintf(result, "total out %llu\n", out.bytes);
	}
	if (err.from >= 0) {
		pthread_join(err.thread, NULL);
		dprintf(result, "total err %llu\n", err.bytes);
	}
}

pid_t start_on_tty(char **argv, char **env, const char *size)
{
	struct winsize ws = { 0 };
	pid_t pid = fork();
	int fd;

	if (pid)
		return pid;
	setsid();
	fd = open("/dev/hvc0", O_RDWR);
	dup2(fd, 0);
	dup2(fd, 1);
	dup2(fd, 2);
	if (fd > 2)
		close(fd);
	ioctl(0, TIOCSCTTY, 1);
	if (sscanf(size, "%hu %hu", &ws.ws_row, &ws.ws_col) == 2)
		ioctl(0, TIOCSWINSZ, &ws);
	start(argv, env);
	return -1;
}

void send_files(int result, const char *dir)
{
	struct relay files = { .to = open_port("zpipe.files") };
	int fds[2];
	pid_t pid;

	if (files.to < 0 || pipe2(fds, O_CLOEXEC)) {
		finding("no way to send %s", dir);
		return;
	}
	pid = fork();
	if (!pid) {
		dup2(fds[1], 1);
		execl("/bin/tar", "tar", "-C", dir, "-cf", "-", ".", NULL);
		_exit(127);
	}
	close(fds[1]);
	files.from = fds[0];
	carry(&files);
	waitpid(pid, NULL, 0);
	dprintf(result, "total files %llu\n", files.bytes);
}
