// SPDX-License-Identifier: GPL-2.0-only
/*
 * The state of a process that a program inherits. tests/command.sh runs this program.
 *
 * Each test brings a child into some state. The child executes this program, which writes
 * down what it inherited: once directly, and once with "zpipe run", whose path is in
 * ZPIPE_TOOL. Both must have inherited the same, except LD_PRELOAD.
 */
#include "kselftest_harness.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define FDS	64
#define TEXT	(64 << 10)

/* Writes down the state of this process to @path. It opens nothing before. */
static int show(const char *path)
{
	static char text[TEXT];
	char *at = text, *end = text + TEXT, link[32], name[256];
	struct sigaction action;
	struct itimerval timer;
	struct rlimit limit;
	sigset_t set;
	ssize_t len;
	mode_t mask;
	int i, flags;

	for (i = 1; i < NSIG; i++)
		if (!sigaction(i, NULL, &action))
			at += snprintf(at, end - at, "signal %d: %s\n", i,
				       action.sa_handler == SIG_DFL ? "default" : "ignored");
	sigprocmask(SIG_BLOCK, NULL, &set);
	for (i = 1; i < NSIG; i++)
		if (sigismember(&set, i) == 1)
			at += snprintf(at, end - at, "signal %d: blocked\n", i);
	sigpending(&set);
	for (i = 1; i < NSIG; i++)
		if (sigismember(&set, i) == 1)
			at += snprintf(at, end - at, "signal %d: pending\n", i);

	for (i = 0; i < FDS; i++) {
		flags = fcntl(i, F_GETFD);
		if (flags < 0)
			continue;
		snprintf(link, sizeof(link), "/proc/self/fd/%d", i);
		len = readlink(link, name, sizeof(name) - 1);
		name[len < 0 ? 0 : len] = 0;
		at += snprintf(at, end - at, "descriptor %d: %s %x %x\n", i, name, flags,
			       fcntl(i, F_GETFL));
	}

	for (i = 0; i < RLIM_NLIMITS; i++)
		if (!getrlimit(i, &limit))
			at += snprintf(at, end - at, "limit %d: %lx %lx\n", i,
				       (long)limit.rlim_cur, (long)limit.rlim_max);
	mask = umask(0);
	getitimer(ITIMER_REAL, &timer);
	at += snprintf(at, end - at, "umask %o\nnice %d\ntimer %d\npersonality %x\n", mask,
		       getpriority(PRIO_PROCESS, 0), timer.it_value.tv_sec > 0, personality(-1));
	at += snprintf(at, end - at, "group %d\nsession %d\nscheduler %d\ndumpable %d\n",
		       getpgrp(), getsid(0), sched_getscheduler(0), prctl(PR_GET_DUMPABLE));
	for (i = 0; environ[i]; i++)
		if (strncmp(environ[i], "LD_PRELOAD=", 11))
			at += snprintf(at, end - at, "environment: %s\n", environ[i]);

	i = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	return write(i, text, at - text) != at - text;
}

static const char direct[] = "/tmp/state.direct", with_zpipe[] = "/tmp/state.zpipe";

static char *read_file(const char *path)
{
	static char texts[2][TEXT];
	static int next;
	char *text = texts[next++ % 2];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = read(fd, text, TEXT - 1);

	text[len < 0 ? 0 : len] = 0;
	close(fd);
	return text;
}

/* Runs this program in a child, after @prepare. Returns its exit status. */
static int run(void (*prepare)(void), bool zpipe, char *const *env)
{
	char *tool = getenv("ZPIPE_TOOL");
	char *self = realpath("/proc/self/exe", NULL);
	char *const plain[] = { self, "show", (char *)direct, NULL };
	char *const wrapped[] = { tool, "run", "--", self, "show", (char *)with_zpipe, NULL };
	int status, fd;
	pid_t pid;

	unlink(zpipe ? with_zpipe : direct);
	pid = fork();
	if (!pid) {
		/* Others than the standard ones do not belong to the test. */
		for (fd = 3; fd < FDS; fd++)
			close(fd);
		prepare();
		execve(zpipe ? tool : self, zpipe ? wrapped : plain, env);
		_exit(99);
	}
	waitpid(pid, &status, 0);
	free(self);
	return status;
}

/* Expects the same state of a program that is run in both ways. */
static void same_state(struct __test_metadata *_metadata, void (*prepare)(void),
		       char *const *env)
{
	ASSERT_NE(NULL, getenv("ZPIPE_TOOL"));
	ASSERT_EQ(0, run(prepare, false, env));
	ASSERT_EQ(0, run(prepare, true, env));
	ASSERT_NE(NULL, strstr(read_file(direct), "environment: "));
	EXPECT_STREQ(read_file(direct), read_file(with_zpipe));
}

/* The environment with the library at a path where there is none, so that zpipe says so. */
static char *const without_library[] = { "PATH=/usr/bin", "ZPIPE_PRELOAD=/nonexistent.so", NULL };

static void nothing(void)
{
}

TEST(as_it_is)
{
	same_state(_metadata, nothing, environ);
}

static void ignore_sigpipe(void)
{
	signal(SIGPIPE, SIG_IGN);
}

/* As in a service of systemd. */
TEST(sigpipe_ignored)
{
	same_state(_metadata, ignore_sigpipe, environ);
	EXPECT_NE(NULL, strstr(read_file(with_zpipe), "signal 13: ignored\n"));
}

static void default_sigpipe(void)
{
	signal(SIGPIPE, SIG_DFL);
}

TEST(sigpipe_default)
{
	same_state(_metadata, default_sigpipe, environ);
	EXPECT_NE(NULL, strstr(read_file(with_zpipe), "signal 13: default\n"));
}

static void signals(void)
{
	sigset_t set;
	int i;

	for (i = SIGRTMIN; i <= SIGRTMAX; i += 2)
		signal(i, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	sigfillset(&set);
	sigdelset(&set, SIGUSR2);
	sigprocmask(SIG_SETMASK, &set, NULL);
	raise(SIGUSR1);
}

TEST(blocked_ignored_and_pending_signals)
{
	same_state(_metadata, signals, environ);
	EXPECT_NE(NULL, strstr(read_file(with_zpipe), "signal 10: blocked\n"));
	EXPECT_NE(NULL, strstr(read_file(with_zpipe), "signal 10: pending\n"));
}

static int closed;

static void close_some(void)
{
	int fd;

	for (fd = 0; fd < 3; fd++)
		if (closed & 1 << fd)
			close(fd);
}

TEST(closed_descriptors)
{
	for (closed = 1; closed < 8; closed++) {
		same_state(_metadata, close_some, environ);
		/* Now it also has a message for a standard error that may be closed. */
		same_state(_metadata, close_some, without_library);
	}
	EXPECT_EQ(NULL, strstr(read_file(with_zpipe), "descriptor "));
}

static int full;

static void full_stderr(void)
{
	dup2(full, 2);
}

TEST(stderr_is_a_full_pipe)
{
	char link[32], name[64] = "", line[96];
	int fd[2];

	/* One of the kernel, at a number that run() does not close. */
	ASSERT_EQ(0, syscall(SYS_pipe2, fd, O_NONBLOCK));
	full = fcntl(fd[1], F_DUPFD_CLOEXEC, FDS);
	ASSERT_LE(FDS, full);
	while (write(full, "x", 1) == 1)
		;
	same_state(_metadata, full_stderr, without_library);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", full);
	ASSERT_LT(0, readlink(link, name, sizeof(name) - 1));
	snprintf(line, sizeof(line), "descriptor 2: %s ", name);
	EXPECT_NE(NULL, strstr(read_file(with_zpipe), line));
}

static void stderr_to_dev_full(void)
{
	dup2(open("/dev/full", O_WRONLY | O_CLOEXEC), 2);
}

TEST(stderr_is_dev_full)
{
	same_state(_metadata, stderr_to_dev_full, without_library);
}

static void (*sigpipe)(int);

static void broken_stderr(void)
{
	int fd[2];

	signal(SIGPIPE, sigpipe);
	syscall(SYS_pipe2, fd, 0);
	close(fd[0]);
	dup2(fd[1], 2);
	close(fd[1]);
}

/* Removes the numbers of pipes from a state. */
static char *without_numbers(char *text)
{
	char *at = text, *rest;

	while ((at = strstr(at, "pipe:["))) {
		at += strlen("pipe:[");
		rest = at + strspn(at, "0123456789");
		memmove(at, rest, strlen(rest) + 1);
	}
	return text;
}

TEST(stderr_is_a_broken_pipe)
{
	char *direct_text, *zpipe_text;
	int i;

	for (i = 0; i < 2; i++) {
		sigpipe = i ? SIG_IGN : SIG_DFL;
		/* The numbers of the pipes differ. */
		ASSERT_EQ(0, run(broken_stderr, false, without_library));
		ASSERT_EQ(0, run(broken_stderr, true, without_library));
		direct_text = without_numbers(read_file(direct));
		zpipe_text = without_numbers(read_file(with_zpipe));
		EXPECT_STREQ(direct_text, zpipe_text);
		EXPECT_NE(NULL, strstr(zpipe_text, i ? "signal 13: ignored\n" :
						       "signal 13: default\n"));
	}
}

/* The limit leaves room for the file that show() writes. */
static void stderr_at_its_limit(void)
{
	struct rlimit limit = { TEXT, TEXT };
	int fd = open("/tmp/state.limit", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	lseek(fd, TEXT, SEEK_SET);
	dup2(fd, 2);
	signal(SIGXFSZ, SIG_DFL);
	setrlimit(RLIMIT_FSIZE, &limit);
}

TEST(stderr_is_a_file_at_its_limit)
{
	same_state(_metadata, stderr_at_its_limit, without_library);
	EXPECT_NE(NULL, strstr(read_file(with_zpipe), "signal 25: default\n"));
}

/* With TOSTOP, the terminal stops a background process that writes. */
TEST(stderr_is_a_terminal_of_another_group)
{
	char *tool = getenv("ZPIPE_TOOL"), *self = realpath("/proc/self/exe", NULL);
	int main_fd = posix_openpt(O_RDWR | O_NOCTTY), status = -1, tty;
	struct termios modes;
	pid_t leader, pid;

	ASSERT_LE(0, main_fd);
	ASSERT_EQ(0, grantpt(main_fd));
	ASSERT_EQ(0, unlockpt(main_fd));
	unlink(with_zpipe);
	leader = fork();
	if (!leader) {
		setsid();
		tty = open(ptsname(main_fd), O_RDWR);
		if (tty < 0 || tcgetattr(tty, &modes))
			_exit(90);
		modes.c_lflag |= TOSTOP;
		if (tcsetattr(tty, TCSANOW, &modes))
			_exit(91);
		pid = fork();
		if (!pid) {
			setpgid(0, 0);
			dup2(tty, 2);
			execle(tool, tool, "run", "--", self, "show", with_zpipe, NULL,
			       without_library);
			_exit(99);
		}
		if (waitpid(pid, &status, WUNTRACED) != pid)
			_exit(92);
		if (WIFSTOPPED(status))
			kill(pid, SIGKILL);
		_exit(status ? 93 : 0);
	}
	ASSERT_EQ(leader, waitpid(leader, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_NE(NULL, strstr(read_file(with_zpipe), "signal 22: default\n"));
	close(main_fd);
	free(self);
}

static void limits(void)
{
	struct itimerval timer = { .it_value.tv_sec = 1000 };
	struct rlimit limit = { 50, 60 };

	setrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = 1 << 20;
	limit.rlim_max = 2 << 20;
	setrlimit(RLIMIT_STACK, &limit);
	setrlimit(RLIMIT_CORE, &limit);
	setpriority(PRIO_PROCESS, 0, 5);
	setitimer(ITIMER_REAL, &timer, NULL);
	personality(ADDR_NO_RANDOMIZE);
	umask(027);
}

TEST(limits_and_others)
{
	same_state(_metadata, limits, environ);
	EXPECT_NE(NULL, strstr(read_file(with_zpipe), "umask 27\nnice 5\ntimer 1\n"));
}

static void descriptors(void)
{
	fcntl(0, F_DUPFD, 10);
	fcntl(0, F_DUPFD, 11);
	fcntl(1, F_DUPFD_CLOEXEC, 12);
	dup2(1, 3);
}

TEST(other_descriptors)
{
	same_state(_metadata, descriptors, environ);
}

TEST(strange_environment)
{
	static char *const env[] = { "NO_EQUALS_SIGN", "A=1", "A=2", "=", "LD_PRELOAD=", "",
				     "Z=\xff", "LD_PRELOAD_NOT=1", NULL };
	static char *const nearly_none[] = { "A=1", NULL };

	same_state(_metadata, nothing, env);
	same_state(_metadata, nothing, nearly_none);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "show"))
		return show(argv[2]);
	return test_harness_run(argc, argv);
}
