// SPDX-License-Identifier: GPL-2.0-only
/*
 * bench [OPTION]...: measures mechanisms side by side, see bench.h. collect.py summarises the
 * rounds.
 *
 * Cells and rounds:
 *  -m NAME,...	mechanisms; default all. Ratios are to pipe
 *  -s BYTES,...	message sizes (64 to 16 MiB by fours, and 2 MiB)
 *  -p PAIRS,...	pairs of processes (1)
 *  -d US,...	paces: the sender begins a message every so many microseconds;
 *		0, the default: as soon as it can
 *  -r N		rounds (21)
 *  -t MS		time of one measurement (25)
 *  -O N		where the rotation of the rows starts (0); each boot uses another value
 *  -l N		round trips per round, with 64 B and one pair (200; 0: none)
 *  -e ROUTE	where messages come from and go to: memory (from memory to memory), null
 *		(to /dev/null), file (from a file) or tcp (to TCP). It comes before -m and -L
 *  -L			lists the mechanisms of the route
 *
 * Messages:
 *  -T TOUCH	the bytes that both ends touch: page or line, one word of each; or sum:
 *		the sender writes all bytes, the receiver checks their sum; or none: the
 *		receiver drops messages (line)
 *  -H on|off	huge pages for buffers of 2 MiB or more, by madvise(2) (on)
 *  -A BYTES	offset of buffers from the start of a page (0)
 *  -R BYTES	bytes of one read of a stream (a message)
 *  -W BYTES	bytes of all buffers of each end (the least that suffices)
 *
 * Machine:
 *  -f			the scheduler places the ends of a single pair; otherwise each has
 *		a processor of its own
 *  -c A,B		these two processors (the first two available)
 *  -w TURNS	which end of a single pair runs if both could: free (the scheduler
 *		decides), writer, reader, or alone: one process is both ends, and
 *		the pipe must have space for a message
 *  -b N		number of other busy processes (0)
 *  -k FILE		the module's file. A mechanism that needs other parameters has the
 *		module loaded again with them; other mechanisms get those of -K
 *  -K ARGS		parameters of the module
 *  -M MODEL		name of the machine model in the results; default: words or max
 *			(emulated, copies by words or by bytes), kvm, or host
 *  -x KEY=VALUE	is added to the first line as it is
 *  -o FILE		appends the results to FILE, see report.c; default: stdout
 */
#define _GNU_SOURCE
#include <math.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"

#define RTT_BYTES	64

/* Minimum numbers of messages. Fewer say little about the interaction between messages. */
#define SMALL		(64UL << 10)
#define LEAST_SMALL	100
#define LEAST_LARGE	16		/* one end is idle during the first and the last */
#define FIRST_TRY	3
#define LEAST_PACED	20

/* All cells, one after another. Each has one result per mechanism. */
static struct result *results;
static size_t nr_cells;

static struct run plan(const struct result *r)
{
	static const size_t steps[] = {
		[TOUCH_PAGE] = PAGE, [TOUCH_LINE] = LINE, [TOUCH_SUM] = sizeof(uint64_t),
		[TOUCH_NONE] = SIZE_MAX,
	};

	return (struct run) {
		.mechanism = r->mechanism, .bytes = r->bytes, .pairs = r->pairs,
		.pace_us = r->pace_us, .messages = r->messages,
		.step = steps[options.touch], .sum = options.touch == TOUCH_SUM,
		.pin = r->pairs == 1 && !options.roam, .turns = options.turns,
	};
}

/* Calls measure(). A mechanism that cannot run is skipped from then on. */
static bool measured(struct result *r, const struct run *run, struct sample *sample)
{
	if (r->refusal.error)
		return false;
	if (!measure(run, sample))
		return true;
	r->refusal = *refusal;
	fprintf(stderr, "bench: %s, %zu bytes: skipped: %s: %s\n", r->mechanism->name,
		r->bytes, r->refusal.what, strerror(r->refusal.error));
	return false;
}

/*
 * Finds the number of messages that takes the wanted time on an undisturbed machine: the
 * fastest of a few tries decides. The first run also compares every word.
 */
static void calibrate(struct result *r)
{
	uint64_t least = r->bytes <= SMALL ? LEAST_SMALL : LEAST_LARGE;
	struct sample sample;
	double fastest = INFINITY;
	struct run run;

	r->messages = FIRST_TRY;
	run = plan(r);
	run.step = sizeof(uint64_t);
	run.sum = false;
	run.look = true;
	if (!measured(r, &run, &sample))
		return;
	r->capacity = sample.capacity;
	r->thp_kb = sample.thp_kb;
	for (int tries = 0; tries < 3; tries++) {
		run = plan(r);
		run.pace_us = 0;
		if (!measured(r, &run, &sample))
			return;
		fastest = fmin(fastest, sample.seconds / r->messages);
		if (fastest * r->messages < options.target_s / 5) {
			r->messages *= 6;
			tries = -1;
		}
	}
	if (r->pace_us) {
		least = LEAST_PACED;
		fastest = fmax(fastest, r->pace_us / 1e6);
	}
	r->messages = fmax(least, options.target_s / fastest);
}

/* Bytes that all pairs together transfer in one measurement. */
static double volume(const struct result *r)
{
	return (double)r->bytes * r->pairs * r->messages;
}

static void time_it(struct result *r)
{
	double bytes = volume(r), mib = bytes / (1 << 20);
	struct run run = plan(r);
	struct sample sample;
	unsigned int i;

	if (!measured(r, &run, &sample))
		return;
	i = r->rounds++;
	r->gbps[i] = bytes / sample.seconds / 1e9;
	r->cpu_ns_per_kib[i] = sample.counts.cpu_ns / (bytes / 1024);
	r->tx_cpu[i] = sample.tx_cpu_ns / 1e9 / sample.seconds;
	r->mid_cpu[i] = sample.mid_cpu_ns / 1e9 / sample.seconds;
	r->rx_cpu[i] = sample.rx_cpu_ns / 1e9 / sample.seconds;
	r->ctxsw[i] = sample.counts.ctxsw / mib;
	r->faults[i] = sample.counts.faults / mib;
	r->allocs[i] = sample.allocs / mib;
	r->spun[i] = sample.counts.spun_us / mib;
	r->pulled[i] = sample.counts.pulled / bytes;
	r->pushed[i] = sample.counts.pushed / bytes;
	r->gifted[i] = sample.counts.gifted / bytes;
	r->moved[i] = sample.counts.moved / bytes;
	r->late[i] = sample.late;
	r->nr_latencies[i] = sample.latencies;
	if (r->pace_us)
		memcpy(r->latencies + i * MAX_LATENCIES, sample.latency_us,
		       sample.latencies * sizeof(*r->latencies));
}

/* Counts events that slow a measurement down. It does so in rounds that are not timed. */
static void count_it(struct result *r)
{
	double mib = volume(r) / (1 << 20);
	struct run run = plan(r);
	struct sample sample;
	unsigned int i;

	run.perf = perf_allowed();
	if (!measured(r, &run, &sample))
		return;
	i = r->counted++;
	r->wakeups[i] = sample.counts.wakeups / mib;
	for (unsigned int k = 0; k < NR_PERF; k++)
		r->perf[k][i] = sample.perf[k] / mib;
}

/*
 * Times of all round trips, one mechanism after another. Shared with the measuring process.
 */
static float *trips;

static void ping_it(struct result *r)
{
	size_t k = (r - results) % options.nr_mechanisms;
	unsigned int each = options.rtt_messages;
	struct run run = plan(r);
	struct sample sample;

	if (r->bytes != RTT_BYTES || r->pairs != 1 || r->pace_us || !each)
		return;
	r->trips = trips + k * options.rounds * each;
	run.messages = each;
	run.pingpong = true;
	run.rounds_us = r->trips + r->rtt_rounds * each;
	if (!measured(r, &run, &sample))
		return;
	r->rtt_rounds++;
	r->rtt_messages = each;
}

/*
 * Runs one round: every mechanism of every cell once. So a disturbance of some seconds
 * affects few rounds of each mechanism instead of all rounds of one. The order rotates, and
 * it is reversed every other round: no mechanism is always first, or always after the same
 * one.
 */
static void one_round(void (*what)(struct result *r), unsigned int round)
{
	size_t n = options.nr_mechanisms;

	for (size_t c = 0; c < nr_cells; c++) {
		for (size_t k = 0; k < n; k++) {
			size_t i = (k + round) % n;

			what(&results[c * n + (round % 2 ? n - 1 - i : i)]);
		}
	}
}

static void set_up_cell(struct result *r, unsigned int pairs, unsigned int pace_us,
			size_t bytes)
{
	for (size_t k = 0; k < options.nr_mechanisms; k++, r++) {
		r->mechanism = options.mechanisms[k];
		r->bytes = bytes;
		r->pairs = pairs;
		r->pace_us = pace_us;
		if (!pace_us)
			continue;
		r->latencies = calloc(options.rounds * MAX_LATENCIES, sizeof(*r->latencies));
		if (!r->latencies)
			fail("no memory");
	}
}

static void set_up(void)
{
	size_t trip_bytes = sizeof(*trips) * options.nr_mechanisms * options.rounds *
			    (options.rtt_messages + 1);
	struct result *r;

	nr_cells = options.nr_pairs * options.nr_paces * options.nr_sizes;
	results = calloc(nr_cells * options.nr_mechanisms, sizeof(*results));
	trips = mmap(NULL, trip_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		     -1, 0);
	if (!results || trips == MAP_FAILED)
		fail("no memory");
	r = results;
	for (size_t i = 0; i < options.nr_pairs; i++) {
		for (size_t d = 0; d < options.nr_paces; d++) {
			for (size_t j = 0; j < options.nr_sizes; j++) {
				set_up_cell(r, options.pairs[i], options.paces_us[d],
					    options.sizes[j]);
				r += options.nr_mechanisms;
			}
		}
	}
	refuse_init();
}

static void measure_all(void)
{
	unsigned int counted = (options.rounds + 2) / 3;

	settle();
	start_load(options.load);
	one_round(calibrate, 0);
	for (unsigned int i = 0; i < options.rounds; i++) {
		fprintf(stderr, "bench: round %u of %u\n", i + 1, options.rounds);
		one_round(time_it, options.first_round + i);
		one_round(ping_it, options.first_round + i);
	}
	if (count_wakeups(true) || perf_allowed()) {
		for (unsigned int i = 0; i < counted; i++)
			one_round(count_it, i);
		count_wakeups(false);
	}
	stop_load();
}

int main(int argc, char **argv)
{
	parse_options(argc, argv);
	set_up();
	report_run(options.to);
	fflush(options.to);
	measure_all();
	module_restore();
	for (size_t i = 0; i < nr_cells * options.nr_mechanisms; i++)
		report(options.to, &results[i]);
	return fclose(options.to) ? 1 : 0;
}
