// SPDX-License-Identifier: GPL-2.0-only
/* The command line; bench.c describes the options. */
#define _GNU_SOURCE
#include <getopt.h>
#include <sched.h>
#include <string.h>

#include "bench.h"

struct options options = {
	.sizes = {
		64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20,
		2 << 20, 4 << 20, 16 << 20,
	},
	.nr_sizes = 11,
	.pairs = { 1 }, .nr_pairs = 1,
	.paces_us = { 0 }, .nr_paces = 1,
	.rounds = 21, .rtt_messages = 200, .target_s = 0.025,
	.processors = { -1, -1 },
	.touch = TOUCH_LINE, .huge = true,
	.module_args = "",
};

static const char * const touches[] = {
	[TOUCH_PAGE] = "page", [TOUCH_LINE] = "line", [TOUCH_SUM] = "sum",
	[TOUCH_NONE] = "none",
};

static const char * const routes[] = {
	[ROUTE_MEMORY] = "memory", [ROUTE_NULL] = "null", [ROUTE_FILE] = "file",
	[ROUTE_TCP] = "tcp",
};

static const char * const turns[] = {
	[TURNS_FREE] = "free", [TURNS_WRITER] = "writer", [TURNS_READER] = "reader",
	[TURNS_ALONE] = "alone",
};

static const char * const switches[] = { "off", "on" };

const char *touch_name(enum touch touch)
{
	return touches[touch];
}

const char *route_name(enum route route)
{
	return routes[route];
}

static bool on_route(const struct mechanism *m)
{
	return m->route == options.route;
}

static void choose(const char *name)
{
	for (size_t i = 0; i < nr_mechanisms; i++) {
		if (on_route(mechanisms[i]) && !strcmp(name, mechanisms[i]->name)) {
			for (size_t k = 0; k < options.nr_mechanisms; k++)
				if (options.mechanisms[k] == mechanisms[i])
					fail("%s twice", name);
			options.mechanisms[options.nr_mechanisms++] = mechanisms[i];
			return;
		}
	}
	fail("no mechanism %s; -L lists them", name);
}

static void choose_list(char *list)
{
	options.nr_mechanisms = 0;
	for (char *name = strtok(list, ", "); name; name = strtok(NULL, ", "))
		choose(name);
}

static unsigned long number(const char *text, unsigned long least, unsigned long most)
{
	char *end;
	unsigned long n = strtoul(text, &end, 0);

	if (*end || end == text || n < least || n > most)
		fail("%s is not a number from %lu to %lu", text, least, most);
	return n;
}

/* Messages are made and checked in words, so their sizes must be whole words. */
static size_t words(size_t bytes)
{
	if (bytes % sizeof(uint64_t))
		fail("%zu bytes are not a number of words of 8", bytes);
	return bytes;
}

/* Parses @list into @to. Returns the number of elements. */
static size_t numbers(char *list, unsigned int *to, unsigned long least, unsigned long most)
{
	size_t n = 0;

	for (char *word = strtok(list, ", "); word; word = strtok(NULL, ", ")) {
		if (n == MAX_SIZES)
			fail("more than %d of a list", MAX_SIZES);
		to[n] = number(word, least, most);
		for (size_t i = 0; i < n; i++)
			if (to[i] == to[n])
				fail("%s twice in a list", word);
		n++;
	}
	if (!n)
		fail("an empty list");
	return n;
}

static int one_of(char opt, const char *name, const char * const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(name, names[i]))
			return i;
	fail("-%c %s? It takes %s, ... or %s", opt, name, names[0], names[n - 1]);
}

static void processors(char *list)
{
	unsigned int two[MAX_SIZES];
	cpu_set_t have;

	if (numbers(list, two, 0, CPU_SETSIZE - 1) != 2)
		fail("-c takes two processors");
	for (int i = 0; i < 2; i++) {
		if (sched_getaffinity(0, sizeof(have), &have) || !CPU_ISSET(two[i], &have))
			fail("processor %u is not available", two[i]);
		options.processors[i] = two[i];
	}
}

/* Chooses the first two processors available, or twice the only one. */
static void first_processors(void)
{
	cpu_set_t have;
	int n = 0;

	if (sched_getaffinity(0, sizeof(have), &have))
		fail("sched_getaffinity: %m");
	for (int cpu = 0; cpu < CPU_SETSIZE && n < 2; cpu++)
		if (CPU_ISSET(cpu, &have))
			options.processors[n++] = cpu;
	if (n == 1)
		options.processors[1] = options.processors[0];
}

static void extra(const char *pair)
{
	if (!strchr(pair, '=') || options.nr_extra == MAX_EXTRA)
		fail("-x %s: not KEY=VALUE, or too many", pair);
	options.extra[options.nr_extra++] = pair;
}

static void list_mechanisms(void)
{
	for (size_t i = 0; i < nr_mechanisms; i++)
		if (on_route(mechanisms[i]))
			printf("%-15s %s\n", mechanisms[i]->name, mechanisms[i]->what);
	exit(0);
}

/* Options for cells and rounds. */
static bool parse_cells(int opt)
{
	unsigned int sizes[MAX_SIZES];

	switch (opt) {
	case 'e':
		if (options.nr_mechanisms)
			fail("-e comes before -m");
		options.route = one_of(opt, optarg, routes, ARRAY_SIZE(routes));
		return true;
	case 'm':
		choose_list(optarg);
		return true;
	case 's':
		options.nr_sizes = numbers(optarg, sizes, 8, 1UL << 30);
		for (size_t i = 0; i < options.nr_sizes; i++)
			options.sizes[i] = words(sizes[i]);
		return true;
	case 'p':
		options.nr_pairs = numbers(optarg, options.pairs, 1, MAX_PAIRS);
		return true;
	case 'd':
		options.nr_paces = numbers(optarg, options.paces_us, 0, 1000000);
		return true;
	case 'r':
		options.rounds = number(optarg, 1, MAX_ROUNDS);
		return true;
	case 'O':
		options.first_round = number(optarg, 0, 1000000);
		return true;
	case 't':
		options.target_s = number(optarg, 1, 10000) / 1e3;
		return true;
	case 'l':
		options.rtt_messages = number(optarg, 0, 100000);
		return true;
	}
	return false;
}

/* Options for messages. */
static bool parse_messages(int opt)
{
	switch (opt) {
	case 'T':
		options.touch = one_of(opt, optarg, touches, ARRAY_SIZE(touches));
		return true;
	case 'H':
		options.huge = one_of(opt, optarg, switches, ARRAY_SIZE(switches));
		return true;
	case 'A':
		options.align = number(optarg, 0, PAGE - 1);
		return true;
	case 'R':
		options.read_bytes = words(number(optarg, 8, 1UL << 30));
		return true;
	case 'W':
		options.working_set = number(optarg, 0, 1UL << 36);
		return true;
	}
	return false;
}

/* Options for the machine and the output. */
static bool parse_machine(int opt)
{
	switch (opt) {
	case 'f':
		options.roam = true;
		return true;
	case 'c':
		processors(optarg);
		return true;
	case 'w':
		options.turns = one_of(opt, optarg, turns, ARRAY_SIZE(turns));
		return true;
	case 'b':
		options.load = number(optarg, 0, 1024);
		return true;
	case 'k':
		options.module = optarg;
		return true;
	case 'K':
		options.module_args = optarg;
		return true;
	case 'M':
		options.model = optarg;
		return true;
	case 'x':
		extra(optarg);
		return true;
	case 'o':
		options.to = fopen(optarg, "ae");
		if (!options.to)
			fail("%s: %m", optarg);
		return true;
	}
	return false;
}

/* The spin limit among the parameters with which the module is loaded. */
static unsigned int spin_us(void)
{
	const char *at = strstr(options.module_args, "spin_us=");

	return at ? strtoul(at + strlen("spin_us="), NULL, 0) : SPIN_US;
}

static void complete(void)
{
	options.spin_ns = 1000ULL * spin_us();
	if (options.roam && options.turns != TURNS_FREE)
		fail("-f or -w, not both");
	for (size_t i = 0; options.turns != TURNS_FREE && i < options.nr_pairs; i++)
		if (options.pairs[i] != 1)
			fail("-w is for a single pair");
	for (size_t i = 0; options.turns == TURNS_ALONE && i < options.nr_paces; i++)
		if (options.paces_us[i])
			fail("-w alone has no pace");
	if (options.roam && options.processors[0] >= 0)
		fail("-f or -c, not both");
	if (!options.roam && options.processors[0] < 0)
		first_processors();
	if (options.touch == TOUCH_NONE && (options.route == ROUTE_MEMORY || options.read_bytes))
		fail("-T none is for routes other than memory, and goes without -R");
	if (options.route != ROUTE_MEMORY && options.turns == TURNS_ALONE)
		fail("-w alone is for the route memory");
	if (options.turns == TURNS_ALONE)
		options.rtt_messages = 0;
	if (!options.nr_mechanisms)
		for (size_t i = 0; i < nr_mechanisms; i++)
			if (on_route(mechanisms[i]))
				options.mechanisms[options.nr_mechanisms++] = mechanisms[i];
	if (!options.to)
		options.to = stdout;
	if (!options.model)
		options.model = this_machine();
}

void parse_options(int argc, char **argv)
{
	int opt;

	/* A copy of the command line as typed, because the parser splits lists in place. */
	options.argv = calloc(argc + 1, sizeof(*options.argv));
	for (int i = 0; options.argv && i < argc; i++)
		options.argv[i] = strdup(argv[i]);
	while ((opt = getopt(argc, argv, "e:m:s:p:d:r:O:t:l:T:H:A:R:W:fc:w:b:k:K:M:x:o:L")) != -1) {
		if (opt == 'L')
			list_mechanisms();
		if (!parse_cells(opt) && !parse_messages(opt) && !parse_machine(opt))
			exit(2);
	}
	if (optind != argc)
		fail("unknown argument %s", argv[optind]);
	complete();
}
