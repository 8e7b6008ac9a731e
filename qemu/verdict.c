// SPDX-License-Identifier: GPL-2.0-only
/*
 * Problems that the kernel reports after a run: in its log, by its taint, by its leak
 * detector, and by a module that cannot be unloaded. Each one is a finding. After any
 * finding the host gets the whole log.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "init.h"

#define TAINT_OOT_MODULE	(1UL << 12)
#define TAINT_UNSIGNED_MODULE	(1UL << 13)
#define TAINT_TEST		(1UL << 18)	/* KUnit ran */

/* A report begins with one of these. */
static const char * const complaints[] = {
	"------------[ cut here ]",
	"BUG:",
	"BUG at",
	"Oops",
	"WARNING:",
	"UBSAN:",
	"general protection fault",
	"Bad page state",
	"Bad page map",
	"Bad rss-counter",
	"blocked for more than",
	"blocked in I/O wait for more than",
	"soft lockup",
	"hard LOCKUP",
	"rcu: INFO:",
	"self-detected stall",
	"refcount_t:",
	"list_add corruption",
	"list_del corruption",
	"ODEBUG:",
	"suspicious RCU usage",
	"inconsistent lock state",
	"DEBUG_LOCKS_WARN_ON",
	"trying to register non-static key",
	"turning off the locking correctness validator",
	"possible circular locking dependency",
	"possible recursive locking",
	"possible irq lock inversion",
	"sleeping function called",
	"scheduling while atomic",
	"Objects remaining",
	"new suspected memory leaks",
	"Kernel memory leak detector disabled",
	"Out of memory:",
	"panicked at",
	/* Of KUnit, if the module has unit tests. */
	"not ok ",
};

/* Two descriptors of the log. Both start where the module is loaded. */
static int to_scan = -1, to_send = -1;
static int result = -1;
static int findings;

void finding_(const char *fmt, ...)
{
	va_list args;

	findings++;
	va_start(args, fmt);
	vdprintf(result, fmt, args);
	va_end(args);
}

static void send_log(void);

/* Sends the stack of each process, for a run that does not end. */
static void send_processes(void)
{
	static const char * const files[] = { "comm", "wchan", "stack" };
	char path[300], *text, *line, *save;
	struct dirent *entry;
	DIR *dir = opendir("/proc");

	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/%s/cmdline", entry->d_name);
		text = read_file(path, NULL);
		if (strtol(entry->d_name, NULL, 10) < 2 || !text || !*text) {
			free(text);
			continue;
		}
		free(text);
		dprintf(result, "log process %s:\n", entry->d_name);
		for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
			snprintf(path, sizeof(path), "/proc/%s/%s", entry->d_name, files[i]);
			text = read_file(path, NULL);
			line = text ? strtok_r(text, "\n", &save) : NULL;
			for (; line; line = strtok_r(NULL, "\n", &save))
				dprintf(result, "log   %s\n", line);
			free(text);
		}
	}
	if (dir)
		closedir(dir);
}

static void *wait_for_host(void *arg)
{
	char line[16];

	if (read(result, line, sizeof(line)) > 0) {
		send_processes();
		send_log();
		dprintf(result, "timed-out\n");
	}
	return arg;
}

static int open_log(int whence)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0 || lseek(fd, 0, whence))
		finding("the kernel log cannot be read: %s", strerror(errno));
	return fd;
}

/* A detector that the kernel was built with must be there. qemu/run knows which. */
static void miss(const char *detector)
{
	char *text = read_file("/.zpipe/detectors", NULL);

	if (text && strstr(text, detector))
		finding("%s does not work", detector);
	free(text);
}

/* Reads one record. Returns its time in microseconds, or -1 at the end of the log. */
static long long next_record(int fd, char *buf, size_t size, char **text)
{
	long long time;
	ssize_t n;

	do {
		n = read(fd, buf, size - 1);
		if (n < 0 && errno == EPIPE)
			finding("the kernel log ran over");
	} while (n < 0 && (errno == EPIPE || errno == EINTR));
	if (n <= 0)
		return -1;
	buf[n] = '\0';
	*text = strchr(buf, ';');
	if (!*text || sscanf(buf, "%*u,%*u,%lld", &time) != 1)
		return -1;
	++*text;
	(*text)[strcspn(*text, "\n")] = '\0';
	return time;
}

/*
 * Functions that race on the kernel's own memory, whoever calls them. capable() sets a flag
 * of the current task that other tasks read.
 */
static const char * const not_ours[] = { "capable" };

/* Parses the title of a report: "BUG: KCSAN: data-race in A / B". */
static bool is_the_kernels(const char *title)
{
	char a[80] = "", b[80] = "";

	sscanf(title, "BUG: KCSAN: %*s in %79s / %79s", a, b);
	for (size_t i = 0; i < sizeof(not_ours) / sizeof(not_ours[0]); i++)
		if (!strcmp(a, not_ours[i]) || !strcmp(b, not_ours[i]))
			return true;
	return false;
}

/*
 * A report of KCSAN is a block of lines. The kernel has harmless races of its own. A race
 * counts only if the module is in one of the stacks: its name stands behind each of its
 * functions.
 */
static char race[300];
static bool race_is_ours;

static void end_race(void)
{
	if (*race && race_is_ours && !is_the_kernels(race))
		finding("kernel log: %s", race);
	*race = '\0';
	race_is_ours = false;
}

static bool part_of_race(const char *text, const char *mark)
{
	const char *title = strstr(text, "BUG: KCSAN:");

	if (title) {
		end_race();
		snprintf(race, sizeof(race), "%s", title);
		return true;
	}
	if (!*race)
		return false;
	if (strstr(text, mark))
		race_is_ours = true;
	if (!strncmp(text, "=====", 5))
		end_race();
	return true;
}

static void scan_log(const char *module)
{
	char buf[8192], mark[80], *text;

	snprintf(mark, sizeof(mark), "[%s]", module);
	while (next_record(to_scan, buf, sizeof(buf), &text) >= 0) {
		if (part_of_race(text, mark))
			continue;
		for (size_t i = 0; i < sizeof(complaints) / sizeof(complaints[0]); i++) {
			if (strstr(text, complaints[i])) {
				finding("kernel log: %s", text);
				break;
			}
		}
	}
	end_race();
}

static void send_log(void)
{
	char buf[8192], *text;
	long long time;

	while ((time = next_record(to_send, buf, sizeof(buf), &text)) >= 0)
		dprintf(result, "log [%5lld.%06lld] %s\n", time / 1000000, time % 1000000, text);
}

/* References may be released a little after the last process has exited. */
static void unload(const char *module)
{
	const struct timespec tick = { .tv_nsec = 10 * 1000 * 1000 };

	for (int i = 0; i < 500; i++) {
		if (!syscall(SYS_delete_module, module, O_NONBLOCK) || errno == ENOENT)
			return;
		if (errno != EAGAIN && errno != EBUSY)
			break;
		nanosleep(&tick, NULL);
	}
	finding("the module does not unload: %s",
		errno == EAGAIN ? "still in use" : strerror(errno));
}

static void check_taint(void)
{
	char *text = read_file("/proc/sys/kernel/tainted", NULL);
	unsigned long taint = text ? strtoul(text, NULL, 10) : 0;

	taint &= ~(TAINT_OOT_MODULE | TAINT_UNSIGNED_MODULE | TAINT_TEST);
	if (taint)
		finding("taint %#lx", taint);
	free(text);
}

/* An object counts as leaked if a second scan, six seconds later, still reports it. */
static void check_objects(void)
{
	static const char path[] = "/sys/kernel/debug/kmemleak";
	char *text, *line, *save;

	if (!write_file(path, "scan")) {
		miss("kmemleak");
		return;
	}
	sleep(6);
	write_file(path, "scan");
	text = read_file(path, NULL);
	if (text && *text) {
		finding("kmemleak has reports");
		for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
			dprintf(result, "log kmemleak: %s\n", line);
		write_file(path, "clear");
	}
	free(text);
}

/*
 * True if the module itself allocated the pages of this stack. It is false if the module
 * called a subsystem that keeps pages of its own.
 */
static bool is_ours(const char *stack, const char *module)
{
	static const char * const keepers[] = {
		"slab", "stack_depot", "fault", "pcpu", "vmalloc", "kmem",
	};
	const char *first, *at;
	char name[80];

	snprintf(name, sizeof(name), "[%s]", module);
	first = strstr(stack, name);
	for (size_t i = 0; first && i < sizeof(keepers) / sizeof(keepers[0]); i++) {
		at = strstr(stack, keepers[i]);
		if (at && at < first)
			first = NULL;
	}
	return first;
}

/* Reports pages, which kmemleak does not track: one finding per stack. */
static void check_pages(const char *module)
{
	char *text = read_file("/sys/kernel/debug/page_owner_stacks/show_stacks", NULL);
	char *stack, *end, *line, *save;

	/* There are always some. */
	if (!text || !*text)
		miss("page_owner");
	for (stack = text; stack && *stack; stack = end) {
		end = strstr(stack, "\n\n");
		if (end) {
			*end = '\0';
			end += 2;
		}
		if (!is_ours(stack, module))
			continue;
		finding("pages of the module are left");
		for (line = strtok_r(stack, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
			dprintf(result, "log page_owner: %s\n", line);
	}
	free(text);
}

/* Ignores the log of the boot, unless the kernel is tainted already. */
void verdict_start(int fd)
{
	pthread_t thread;

	result = fd;
	check_taint();
	to_send = open_log(findings ? SEEK_SET : SEEK_END);
	to_scan = open_log(SEEK_END);
	pthread_create(&thread, NULL, wait_for_host, NULL);
}

/* Checks before unloading, while stacks show the module's names, and after it. */
void verdict_finish(const char *module)
{
	if (module) {
		check_objects();
		check_pages(module);
		unload(module);
	}
	check_objects();
	check_taint();
	scan_log(module ? module : "");
	if (findings)
		send_log();
}
