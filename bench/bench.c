// SPDX-License-Identifier: GPL-2.0-only
/*
 * bench [OPTION]...: measures mechanisms side by side, see bench.h. What the
 * rounds say together is for collect.py.
 *
 *  -m NAME,...	mechanisms; default all. pipe is what ratios are to
 *  -s BYTES,...	message sizes (64 to 16 MiB by fours, and 2 MiB)
 *  -p PAIRS,...	pairs of processes (1)
 *  -r N		rounds (21)
 *  -t MS		time of one measurement (25)
 *  -l N		round trips per round, with 64 B and one pair (200; 0: none)
 *  -f			a single pair's ends run wherever the scheduler puts them;
 *			otherwise each has a processor of its own
 *  -w TURNS	who of a single pair goes on when both could: free (the scheduler
 *		decides), writer, reader, or alone: one process is both ends, which
 *		the pipe must hold a message for
 *  -M MODEL		what the results say of the machine; default: words or max
 *			(emulated, copies by words or by bytes), kvm, or host
 *  -o FILE		results are added there, see report.c; default: to stdout
 *  -L			lists the mechanisms
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <getopt.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

/* One row for each; the first is what the others are compared with. */
static const struct mechanism * const mechanisms[] = {
	&mechanism_pipe,
	&mechanism_pipe_1m,
	&mechanism_fifo,
	&mechanism_vmsplice,
	&mechanism_cma,
	&mechanism_unix,
	&mechanism_memfd,
	&mechanism_zpipe,
	&mechanism_zpipe_node,
};
#define NR_MECHANISMS	ARRAY_SIZE(mechanisms)

#define RTT_BYTES	64
#define BIT_ERMS	(1U << 9)	/* of CPUID 7: rep movsb is fast */

/* So many messages at least: fewer say little of what goes on between them. */
#define SMALL		(64UL << 10)
#define LEAST_SMALL	100
#define LEAST_LARGE	3

static const struct mechanism *chosen[MAX_MECHANISMS];
static size_t nr_chosen;
static size_t sizes[MAX_SIZES] = {
	64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 2 << 20,
	4 << 20, 16 << 20,
};
static size_t nr_sizes = 11;
static unsigned int pairs[MAX_SIZES] = { 1 };
static size_t nr_pairs = 1;
static unsigned int rounds = 21, rtt_messages = 200;
static double target_s = 0.025;
static bool roam;
static enum turns turns;
static const char *model;
static FILE *to;

/* A cell after another, in each a mechanism after another. */
static struct result *results;
static size_t nr_cells;

static struct run plan(const struct result *r)
{
	return (struct run) {
		.mechanism = r->mechanism, .bytes = r->bytes, .pairs = r->pairs,
		.messages = r->messages, .pin = r->pairs == 1 && !roam, .turns = turns,
	};
}

/*
 * How many messages take the time wanted, where nothing disturbs: the fastest
 * of a few tries says. The first run also compares every word.
 */
static void calibrate(struct result *r)
{
	uint64_t least = r->bytes <= SMALL ? LEAST_SMALL : LEAST_LARGE;
	struct sample sample;
	double fastest = INFINITY;
	struct run run;

	r->messages = LEAST_LARGE;
	run = plan(r);
	run.verify = true;
	measure(&run, &sample);
	for (int tries = 0; tries < 3; tries++) {
		run = plan(r);
		measure(&run, &sample);
		fastest = fmin(fastest, sample.seconds / r->messages);
		if (fastest * r->messages < target_s / 5) {
			r->messages *= 6;
			tries = -1;
		}
	}
	r->messages = fmax(least, target_s / fastest);
}

/* What all pairs together carry in one measurement. */
static double volume(const struct result *r)
{
	return (double)r->bytes * r->pairs * r->messages;
}

static void time_it(struct result *r)
{
	double bytes = volume(r), mib = bytes / (1 << 20);
	unsigned int i = r->rounds++;
	struct run run = plan(r);
	struct sample sample;

	measure(&run, &sample);
	r->gbps[i] = bytes / sample.seconds / 1e9;
	r->cpu_ns_per_kib[i] = sample.counts.cpu_ns / (bytes / 1024);
	r->ctxsw[i] = sample.counts.ctxsw / mib;
	r->faults[i] = sample.counts.faults / mib;
	r->allocs[i] = sample.allocs / mib;
	r->pulled[i] = sample.counts.pulled / bytes;
	r->pushed[i] = sample.counts.pushed / bytes;
}

static void count_it(struct result *r)
{
	unsigned int i = r->counted++;
	struct run run = plan(r);
	struct sample sample;

	measure(&run, &sample);
	r->wakeups[i] = sample.counts.wakeups / (volume(r) / (1 << 20));
}

/* All round trips, shared with who measures them, one mechanism after another. */
static float *trips;

static void ping_it(struct result *r)
{
	size_t k = (r - results) % nr_chosen;
	struct run run = plan(r);
	struct sample sample;

	if (r->bytes != RTT_BYTES || r->pairs != 1 || !rtt_messages)
		return;
	r->trips = trips + k * rounds * rtt_messages;
	run.messages = rtt_messages;
	run.pingpong = true;
	run.rounds_us = r->trips + r->rtt_rounds * rtt_messages;
	measure(&run, &sample);
	r->rtt_rounds++;
	r->rtt_messages = rtt_messages;
}

/*
 * A round is every mechanism of every cell once, so that what disturbs the
 * machine for some seconds spoils few rounds of each instead of all of one. The
 * order rotates, and every other round it is reversed: nothing always comes
 * first, or always after the same.
 */
static void one_round(void (*what)(struct result *r), unsigned int round)
{
	for (size_t c = 0; c < nr_cells; c++) {
		for (size_t k = 0; k < nr_chosen; k++) {
			size_t i = (k + round) % nr_chosen;

			what(&results[c * nr_chosen +
				      (round % 2 ? nr_chosen - 1 - i : i)]);
		}
	}
}

static void set_up(void)
{
	struct result *r;

	nr_cells = nr_pairs * nr_sizes;
	results = calloc(nr_cells * nr_chosen, sizeof(*results));
	trips = mmap(NULL, sizeof(*trips) * nr_chosen * rounds * (rtt_messages + 1),
		     PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!results || trips == MAP_FAILED)
		fail("no memory");
	r = results;
	for (size_t i = 0; i < nr_pairs; i++) {
		for (size_t j = 0; j < nr_sizes; j++) {
			for (size_t k = 0; k < nr_chosen; k++, r++) {
				r->mechanism = chosen[k];
				r->bytes = sizes[j];
				r->pairs = pairs[i];
			}
		}
	}
}

static void measure_all(void)
{
	unsigned int counted = (rounds + 2) / 3;

	settle();
	one_round(calibrate, 0);
	for (unsigned int i = 0; i < rounds; i++) {
		fprintf(stderr, "bench: round %u of %u\n", i + 1, rounds);
		one_round(time_it, i);
		one_round(ping_it, i);
	}
	if (count_wakeups(true)) {
		for (unsigned int i = 0; i < counted; i++)
			one_round(count_it, i);
		count_wakeups(false);
	}
}

static const char *this_machine(void)
{
	unsigned int id[4] = { 0 }, eax, ebx = 0, ecx = 0, edx;
	char vendor[13] = "";

	if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx & 1U << 31) {
		__cpuid(0x40000000, id[0], id[1], id[2], id[3]);
		memcpy(vendor, &id[1], 12);
	}
	if (!strcmp(vendor, "KVMKVMKVM"))
		return "kvm";
	if (strcmp(vendor, "TCGTCGTCGTCG"))
		return "host";
	__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx);
	return ebx & BIT_ERMS ? "max" : "words";
}

static void choose(const char *name)
{
	for (size_t i = 0; i < NR_MECHANISMS; i++) {
		if (!strcmp(name, mechanisms[i]->name)) {
			chosen[nr_chosen++] = mechanisms[i];
			return;
		}
	}
	fail("no mechanism %s; -L lists them", name);
}

static void choose_list(char *list)
{
	for (char *name = strtok(list, ", "); name; name = strtok(NULL, ", "))
		if (nr_chosen < MAX_MECHANISMS)
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

static enum turns turns_of(const char *name)
{
	static const char * const names[] = {
		[TURNS_FREE] = "free", [TURNS_WRITER] = "writer",
		[TURNS_READER] = "reader", [TURNS_ALONE] = "alone",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i]))
			return i;
	fail("-w %s? free, writer, reader or alone", name);
}

static void parse(int argc, char **argv)
{
	char *word;
	int opt;

	while ((opt = getopt(argc, argv, "m:s:p:r:t:l:fw:M:o:L")) != -1) {
		switch (opt) {
		case 'm':
			choose_list(optarg);
			break;
		case 's':
			nr_sizes = 0;
			for (word = strtok(optarg, ", "); word && nr_sizes < MAX_SIZES;
			     word = strtok(NULL, ", "))
				sizes[nr_sizes++] = number(word, 8, 1UL << 30) & ~7UL;
			break;
		case 'p':
			nr_pairs = 0;
			for (word = strtok(optarg, ", "); word && nr_pairs < MAX_SIZES;
			     word = strtok(NULL, ", "))
				pairs[nr_pairs++] = number(word, 1, MAX_PAIRS);
			break;
		case 'r':
			rounds = number(optarg, 1, MAX_ROUNDS);
			break;
		case 't':
			target_s = number(optarg, 1, 10000) / 1e3;
			break;
		case 'l':
			rtt_messages = number(optarg, 0, 100000);
			break;
		case 'f':
			roam = true;
			break;
		case 'w':
			turns = turns_of(optarg);
			break;
		case 'M':
			model = optarg;
			break;
		case 'o':
			to = fopen(optarg, "ae");
			if (!to)
				fail("%s: %m", optarg);
			break;
		case 'L':
			for (size_t i = 0; i < NR_MECHANISMS; i++)
				printf("%-11s %s\n", mechanisms[i]->name,
				       mechanisms[i]->what);
			exit(0);
		default:
			exit(2);
		}
	}
	if (optind != argc)
		fail("what is %s?", argv[optind]);
	for (size_t i = 0; turns != TURNS_FREE && i < nr_pairs; i++)
		if (pairs[i] != 1)
			fail("-w is for a single pair");
	if (turns == TURNS_ALONE)
		rtt_messages = 0;
	for (size_t i = 0; !nr_chosen && i < NR_MECHANISMS; i++)
		chosen[i] = mechanisms[i];
	if (!nr_chosen)
		nr_chosen = NR_MECHANISMS;
	if (!to)
		to = stdout;
	if (!model)
		model = this_machine();
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	set_up();
	measure_all();
	for (size_t i = 0; i < nr_cells * nr_chosen; i++)
		report(to, model, &results[i]);
	return fclose(to) ? 1 : 0;
}
