// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reloads the module. Its parameters are set when it is loaded, so a mechanism that needs
 * others has it loaded again. That needs the module's file (-k), and root.
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
#define TRIES		200		/* of 10 ms each */

/* The parameters of the loaded module. Valid if @known. */
static char now[ARGS_BYTES];
static bool known;
/* This program unloaded the module, so it may be loaded differently or not at all. */
static bool touched;

static bool same_key(const char *a, const char *b)
{
	size_t len = strcspn(a, "= ");

	return len == strcspn(b, "= ") && !strncmp(a, b, len);
}

/*
 * Merges parameters: those of @args whose keys are not in @own, then @own. A key must not
 * occur twice.
 */
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

/* Descriptors of processes that have just exited may take a moment to be closed. */
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

/* False for a compressed file, for example. */
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
	/* Checked before the old module is unloaded. */
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

/* Loads the module as @m needs it, unless it is. Returns 0, or the result of cannot(). */
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

/* Loads the module with the parameters of -K again. */
void module_restore(void)
{
	char args[ARGS_BYTES];

	merge(args, options.module_args, "");
	if (options.module && touched && load(args))
		fail("the module could not be restored: %s: %s", refusal->what,
		     strerror(refusal->error));
}
