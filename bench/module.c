// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module has its parameters from when it is loaded. For a mechanism that
 * wants others it is loaded again, which takes its file, -k, and root.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define NAME		"zpipe"
#define ARGS_BYTES	1024
#define TRIES		200		/* of 10 ms */

/* What it is loaded with now, as far as is known: empty and false, nothing. */
static char now[ARGS_BYTES];
static bool known;
/* It was taken away, and may be loaded otherwise or not at all. */
static bool touched;

static bool same_key(const char *a, const char *b)
{
	size_t len = strcspn(a, "= ");

	return len == strcspn(b, "= ") && !strncmp(a, b, len);
}

/* What @args says, but for those that @own says otherwise; none may come twice. */
static void merge(char *to, const char *args, const char *own)
{
	size_t used = 0;

	for (const char *word = args + strspn(args, " "); *word; word += strspn(word, " ")) {
		size_t len = strcspn(word, " ");

		if (!same_key(word, own)) {
			if (used + len + 1 + strlen(own) >= ARGS_BYTES)
				fail("-K %s: too long", args);
			memcpy(to + used, word, len);
			used += len;
			to[used++] = ' ';
		}
		word += len;
	}
	memcpy(to + used, own, strlen(own) + 1);
}

/* Descriptors of those who ended just now may take a moment to be gone. */
static int unload(void)
{
	const struct timespec tick = { .tv_nsec = 10 * 1000 * 1000 };

	for (int i = 0; i < TRIES; i++) {
		if (!syscall(SYS_delete_module, NAME, O_NONBLOCK) || errno == ENOENT)
			return 0;
		if (errno != EAGAIN)
			break;
		nanosleep(&tick, NULL);
	}
	return cannot("delete_module");
}

/* Not one that is compressed, say. */
static bool is_elf(const char *path)
{
	char magic[4] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool is;

	if (fd < 0)
		return false;
	errno = ENOEXEC;
	is = read(fd, magic, sizeof(magic)) == sizeof(magic) && !memcmp(magic, "\177ELF", 4);
	close(fd);
	return is;
}

static int load(const char *args)
{
	int fd, ret;

	if (known && !strcmp(args, now))
		return 0;
	/* Before what is there is gone. */
	if (!is_elf(options.module))
		return cannot(options.module);
	known = false;
	touched = true;
	ret = unload();
	if (ret)
		return ret;
	fd = open(options.module, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return cannot(options.module);
	ret = syscall(SYS_finit_module, fd, args, 0);
	if (ret)
		cannot("finit_module");
	close(fd);
	if (ret)
		return -1;
	known = true;
	memcpy(now, args, strlen(args) + 1);
	return 0;
}

/* Loads the module as @m wants it, unless it is; 0, or what cannot() returns. */
int module_for(const struct mechanism *m)
{
	char args[ARGS_BYTES];

	if (options.module) {
		merge(args, options.module_args, m->parameters ? m->parameters : "");
		return load(args);
	}
	if (!m->parameters)
		return 0;
	errno = ENOENT;
	return cannot("no module file (-k)");
}

/* As it is when nothing is measured. */
void module_restore(void)
{
	char args[ARGS_BYTES];

	merge(args, options.module_args, "");
	if (options.module && touched && load(args))
		fail("the module is not as it was: %s: %s", refusal->what,
		     strerror(refusal->error));
}
