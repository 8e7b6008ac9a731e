// SPDX-License-Identifier: GPL-2.0-only
/*
 * terminal TEXT WAY COMMAND...: runs COMMAND on a terminal of its own. Waits until it has shown
 * TEXT, then ends it in this WAY:
 *
 *	q	with this key
 *	stop	stops it with ^Z, lets it go on, and then as q
 *	wait	it ends by itself
 *	NAME	with the signal SIGNAME
 *
 * It prints "status N" or "signal N". It fails if COMMAND does not restore the terminal: the
 * settings, the usual screen, and the cursor. COMMAND need not have changed them.
 */
#include <err.h>
#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char shown[1 << 20];
static size_t length;
static int terminal;
static pid_t child;

/* Takes what the program shows, for at most @ms milliseconds. Returns false at the end. */
static bool take(int ms)
{
	struct pollfd poll_in = { .fd = terminal, .events = POLLIN };
	ssize_t got;

	if (poll(&poll_in, 1, ms) <= 0)
		return true;
	got = read(terminal, shown + length, sizeof(shown) - 1 - length);
	if (got <= 0)
		return false;
	length += got;
	return true;
}

static void wait_for(const char *text)
{
	for (int i = 0; i < 600; i++) {
		if (strstr(shown, text))
			return;
		if (!take(100))
			break;
	}
	kill(child, SIGKILL);
	errx(1, "it has not shown %s, but %s", text, shown);
}

/* The offset behind the last occurrence of @text, or 0. */
static size_t last(const char *text)
{
	size_t at = 0;

	for (char *found = shown; (found = strstr(found, text)); found++)
		at = found - shown + strlen(text);
	return at;
}

static void check_restored(const struct termios *before, const char *when)
{
	struct termios after;

	for (int i = 0; i < 5; i++)
		take(100);
	if (tcgetattr(terminal, &after))
		err(1, "tcgetattr");
	if (before->c_lflag != after.c_lflag || before->c_iflag != after.c_iflag ||
	    before->c_oflag != after.c_oflag || before->c_cflag != after.c_cflag)
		errx(1, "%s: other settings", when);
	if (last("\033[?1049h") > last("\033[?1049l"))
		errx(1, "%s: the other screen", when);
	if (last("\033[?25l") > last("\033[?25h"))
		errx(1, "%s: no cursor", when);
}

static int signal_of(const char *name)
{
	for (int i = 1; i < NSIG; i++)
		if (sigabbrev_np(i) && !strcmp(sigabbrev_np(i), name))
			return i;
	errx(1, "no signal %s", name);
}

static void type(char key)
{
	if (write(terminal, &key, 1) != 1)
		err(1, "write");
}

static void stop(const struct termios *before)
{
	int status;

	type('Z' & 0x1f);
	if (waitpid(child, &status, WUNTRACED) != child || !WIFSTOPPED(status))
		errx(1, "it has not stopped");
	check_restored(before, "stopped");
	length = 0;
	memset(shown, 0, sizeof(shown));
	kill(child, SIGCONT);
}

int main(int argc, char **argv)
{
	struct winsize size = { .ws_row = 24, .ws_col = 160 };
	struct termios before;
	const char *way;
	int status;

	if (argc < 4)
		errx(1, "usage: terminal TEXT WAY COMMAND...");
	way = argv[2];
	child = forkpty(&terminal, NULL, NULL, &size);
	if (child < 0)
		err(1, "forkpty");
	if (!child) {
		/* Waits until the parent knows the settings. */
		raise(SIGSTOP);
		execvp(argv[3], argv + 3);
		err(127, "%s", argv[3]);
	}
	if (waitpid(child, &status, WUNTRACED) != child || tcgetattr(terminal, &before))
		err(1, "tcgetattr");
	kill(child, SIGCONT);
	wait_for(argv[1]);
	if (!strcmp(way, "stop")) {
		stop(&before);
		wait_for(argv[1]);
	}
	if (!strcmp(way, "q") || !strcmp(way, "stop"))
		type('q');
	else if (strcmp(way, "wait"))
		kill(child, signal_of(way));
	for (int i = 0; i < 600; i++) {
		pid_t ended = waitpid(child, &status, WNOHANG);

		if (ended == child)
			break;
		if (ended || i == 599) {
			kill(child, SIGKILL);
			errx(1, "it does not end");
		}
		/* Once all have closed the terminal there is nothing to wait for there. */
		if (!take(100))
			usleep(100000);
	}
	check_restored(&before, "at the end");
	if (WIFSIGNALED(status))
		printf("signal %d\n", WTERMSIG(status));
	else
		printf("status %d\n", WEXITSTATUS(status));
	return 0;
}
