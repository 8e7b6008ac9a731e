// SPDX-License-Identifier: GPL-2.0-only
/*
 * pair pipe|zpipe MIB: a parent writes MIB mebibytes to its child, 64 KiB at a time,
 * through a pair of descriptors from pipe2(2) or from /dev/zpipe-control. Both print their
 * sums, which must agree. The last line is the time in seconds.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "zpipe2.h"

#define CHUNK	(64 * 1024)

static uint64_t buf[CHUNK / sizeof(uint64_t)];

/* Unlike a plain sum, it depends on the order. */
static uint64_t sum(uint64_t so_far, size_t bytes)
{
	for (size_t i = 0; i < bytes / sizeof(buf[0]); i++)
		so_far = so_far * 31 + buf[i];
	return so_far;
}

static uint64_t child(int fd)
{
	uint64_t seen = 0, bytes = 0;
	size_t have = 0;
	struct stat st;
	ssize_t n;

	while ((n = read(fd, (char *)buf + have, CHUNK - have)) > 0) {
		bytes += n;
		have += n;
		if (have == CHUNK) {
			seen = sum(seen, have);
			have = 0;
		}
	}
	if (n < 0 || fstat(fd, &st))
		fail("child");
	printf("child  %d: read  %llu bytes, sum %016llx, fd %d is a %s\n", getpid(),
	       (unsigned long long)bytes, (unsigned long long)seen, fd,
	       S_ISFIFO(st.st_mode) ? "FIFO" : "something else");
	return seen;
}

static void show_counters(int fd)
{
	char path[64], line[256];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, "zpipe", 5))
			printf("  %s", line);
	}
	if (file)
		fclose(file);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	long chunks = argc == 3 ? strtol(argv[2], NULL, 10) * (1 << 20) / CHUNK : 0;
	bool zpipe = argc == 3 && !strcmp(argv[1], "zpipe");
	uint64_t seen = 0, theirs = 0;
	int fds[2], report[2], status;
	double start;
	pid_t pid;

	if (chunks <= 0) {
		fprintf(stderr, "usage: pair pipe|zpipe MIB\n");
		return 2;
	}
	if (zpipe)
		zpipe2(fds, O_CLOEXEC);
	else if (pipe2(fds, O_CLOEXEC))
		fail("pipe2");
	if (pipe2(report, O_CLOEXEC))
		fail("pipe2");
	start = now();
	pid = fork();
	if (pid < 0)
		fail("fork");
	if (!pid) {
		close(fds[1]);
		theirs = child(fds[0]);
		if (write(report[1], &theirs, sizeof(theirs)) != sizeof(theirs))
			fail("report");
		return 0;
	}
	close(fds[0]);
	for (long i = 0; i < chunks; i++) {
		for (size_t j = 0; j < CHUNK / sizeof(buf[0]); j += 8)
			buf[j] += i ^ j;
		seen = sum(seen, CHUNK);
		if (write(fds[1], buf, CHUNK) != CHUNK)
			fail("write");
	}
	printf("parent %d: wrote %llu bytes, sum %016llx\n", getpid(),
	       (unsigned long long)chunks * CHUNK, (unsigned long long)seen);
	fflush(stdout);
	if (zpipe)
		show_counters(fds[1]);
	fflush(stdout);
	close(fds[1]);
	if (read(report[0], &theirs, sizeof(theirs)) != sizeof(theirs) ||
	    waitpid(pid, &status, 0) != pid || status || seen != theirs) {
		printf("the two DIFFER\n");
		return 1;
	}
	printf("%.3f\n", now() - start);
	return 0;
}
