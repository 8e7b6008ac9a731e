// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's first process. It sets the guest up, loads the module, runs one command and unloads
 * the module. Then it checks whether the kernel reports a problem, and tells the host.
 *
 * qemu/run puts its parameters into these files of the initramfs:
 *
 *  /zpipe.ko		the module; if it is missing, no module is loaded
 *  /.zpipe/params	the module's parameters
 *  /.zpipe/argv	the command, each word ended by a NUL
 *  /.zpipe/env		its environment, in the same form
 *  /.zpipe/tty		gives the command a terminal; content: rows and columns
 *  /.zpipe/out		sends the command's files in /out to the host
 *  /.zpipe/hung	seconds after which a blocked task counts as hung
 *  /.zpipe/detectors	detectors that must work: "kmemleak", "page_owner"
 *
 * The host listens on virtio-serial ports. zpipe.in, zpipe.out and zpipe.err are the command's
 * streams. zpipe.files receives a tar archive of /out. zpipe.result receives lines: "started",
 * "finding TEXT", "total PORT BYTES", "status N", "log TEXT", and finally "done", after which the
 * host ends the guest. On a time-out the host writes a line to zpipe.result. It then receives the
 * stack of each process.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "init.h"

static const struct {
	const char *type, *dir, *options;
} mounts[] = {
	{ "proc", "/proc", "" },
	{ "sysfs", "/sys", "" },
	{ "devtmpfs", "/dev", "mode=755" },
	{ "tmpfs", "/dev/shm", "mode=1777" },
	{ "devpts", "/dev/pts", "mode=620,ptmxmode=666" },
	{ "tmpfs", "/tmp", "mode=1777" },
	{ "tmpfs", "/run", "mode=755" },
	{ "tmpfs", "/out", "mode=1777" },
	/* These file systems are optional in a kernel. */
	{ "debugfs", "/sys/kernel/debug", "" },
	{ "tracefs", "/sys/kernel/tracing", "" },
	{ "cgroup2", "/sys/fs/cgroup", "" },
};

/* Reads a whole file and ends it with a NUL. Returns NULL on an error. */
char *read_file(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0, size = 4096;
	char *text = malloc(size);
	ssize_t n;

	if (fd < 0 || !text)
		return NULL;
	while ((n = read(fd, text + used, size - used - 1)) > 0) {
		used += n;
		if (used == size - 1) {
			size *= 2;
			text = realloc(text, size);
			if (!text)
				return NULL;
		}
	}
	close(fd);
	text[used] = '\0';
	if (len)
		*len = used;
	return text;
}

bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, text, strlen(text)) >= 0;
	close(fd);
	return ok;
}

/* Splits a file of NUL-ended words. */
static char **read_words(const char *path)
{
	size_t len = 0, n = 0, at;
	char *text = read_file(path, &len);
	char **words = calloc(len + 1, sizeof(*words));

	for (at = 0; words && at < len; at += strlen(text + at) + 1)
		words[n++] = text + at;
	return words;
}

static void set_up(void)
{
	char *hung = read_file("/.zpipe/hung", NULL);
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int sock;

	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		mkdir(mounts[i].dir, 0755);
		mount(mounts[i].type, mounts[i].dir, mounts[i].type, 0, mounts[i].options);
	}
	if (symlink("/proc/self/fd", "/dev/fd") ||
	    symlink("/proc/self/fd/0", "/dev/stdin") ||
	    symlink("/proc/self/fd/1", "/dev/stdout") ||
	    symlink("/proc/self/fd/2", "/dev/stderr"))
		perror("init: /dev");

	sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0 || ioctl(sock, SIOCSIFFLAGS, &lo))
		perror("init: lo");
	close(sock);
	if (sethostname("zpipe", 5))
		perror("init: hostname");

	write_file("/proc/sys/kernel/hung_task_timeout_secs", hung ? hung : "30");
	write_file("/proc/sys/kernel/hung_task_warnings", "-1");
	free(hung);
}

static bool load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *params = read_file("/.zpipe/params", NULL);
	bool ok = !syscall(SYS_finit_module, fd, params ? params : "", 0);

	if (!ok)
		finding("the module does not load: %s", strerror(errno));
	close(fd);
	free(params);
	return ok;
}

/* Waits for @pid. Meanwhile it reaps all processes that the first process inherits. */
static int await(pid_t pid)
{
	int status;
	pid_t got;

	do {
		got = wait(&status);
	} while (got != pid && (got > 0 || errno == EINTR));
	if (got < 0)
		return 127;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/*
 * Kills the processes that the command left behind. If the module is still in use
 * afterwards, the cause is a bug in the module.
 */
static void end_the_rest(void)
{
	const struct timespec tick = { .tv_nsec = 10 * 1000 * 1000 };
	pid_t got;

	for (int i = 0; i < 1000; i++) {
		kill(-1, SIGKILL);
		do {
			got = waitpid(-1, NULL, WNOHANG);
		} while (got > 0);
		if (got < 0)
			return;
		nanosleep(&tick, NULL);
	}
	finding("a process cannot be killed");
}

int main(void)
{
	char **argv = read_words("/.zpipe/argv"), **env = read_words("/.zpipe/env");
	char *tty = read_file("/.zpipe/tty", NULL);
	int result, status = 127;
	bool module;
	pid_t pid;

	signal(SIGPIPE, SIG_IGN);
	set_up();
	result = open_port("zpipe.result");
	dprintf(result, "started\n");
	verdict_start(result);
	module = access("/zpipe.ko", F_OK) == 0;
	if (!module || load("/zpipe.ko")) {
		pid = tty ? start_on_tty(argv, env, tty) : start_on_pipes(argv, env);
		if (pid > 0)
			status = await(pid);
	}
	end_the_rest();
	if (!tty)
		finish_pipes(result);
	if (access("/.zpipe/out", F_OK) == 0)
		send_files(result, "/out");
	dprintf(result, "status %d\n", status);
	verdict_finish(module ? "zpipe" : NULL);
	dprintf(result, "done\n");

	/* The host ends the guest when it has received everything. */
	sleep(10);
	reboot(RB_POWER_OFF);
	return 0;
}
