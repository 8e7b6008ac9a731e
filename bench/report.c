// SPDX-License-Identifier: GPL-2.0-only
/* The measurements, round by round: one JSON object per line. */
#define _GNU_SOURCE
#include <math.h>
#include <string.h>
#include <sys/utsname.h>

#include "bench.h"

static const char *truth(bool is)
{
	return is ? "true" : "false";
}

static void put_skipped(FILE *to, const struct refusal *why)
{
	const char *name = strerrorname_np(why->error);
	char text[sizeof(why->what) + 32];

	snprintf(text, sizeof(text), "%s: %s", name ? name : "?", why->what);
	fputs(", \"skipped\": ", to);
	json_string(to, text);
}

static void put_perf(FILE *to, const struct result *r)
{
	static const char * const keys[NR_PERF] = {
		[PERF_INSTRUCTIONS] = "instructions",
		[PERF_CYCLES] = "cycles",
		[PERF_LLC_MISSES] = "llc_misses",
	};

	fputs(", \"perf\": {\"per\": \"MiB\"", to);
	for (unsigned int i = 0; i < NR_PERF; i++)
		json_list(to, keys[i], r->perf[i], r->counted);
	fputs("}", to);
}

static void put_rounds(FILE *to, const struct result *r)
{
	unsigned int each[MAX_ROUNDS];

	for (unsigned int i = 0; i < r->rtt_rounds; i++)
		each[i] = r->rtt_messages;
	json_list(to, "gbps", r->gbps, r->rounds);
	json_list(to, "cpu_ns_per_kib", r->cpu_ns_per_kib, r->rounds);
	json_list(to, "tx_cpu", r->tx_cpu, r->rounds);
	if (r->mechanism->carry)
		json_list(to, "mid_cpu", r->mid_cpu, r->rounds);
	json_list(to, "rx_cpu", r->rx_cpu, r->rounds);
	json_list(to, "ctxsw", r->ctxsw, r->rounds);
	json_list(to, "faults", r->faults, r->rounds);
	json_list(to, "allocs", r->allocs, r->rounds);
	json_list(to, "spun", r->spun, r->rounds);
	json_list(to, "pulled", r->pulled, r->rounds);
	json_list(to, "pushed", r->pushed, r->rounds);
	json_list(to, "gifted", r->gifted, r->rounds);
	json_list(to, "moved", r->moved, r->rounds);
	json_list(to, "wakeups", r->wakeups, r->counted);
	json_floats(to, "trips_us", r->trips, r->rtt_rounds, each, r->rtt_messages);
	if (r->counted && perf_allowed())
		put_perf(to, r);
	if (!r->pace_us)
		return;
	json_list(to, "late", r->late, r->rounds);
	json_floats(to, "latency_us", r->latencies, r->rounds, r->nr_latencies, MAX_LATENCIES);
}

void report(FILE *to, const struct result *r)
{
	struct utsname uts;

	uname(&uts);
	fprintf(to, "{\"mechanism\": \"%s\", \"bytes\": %zu, \"pairs\": %u, \"pace_us\": %u",
		r->mechanism->name, r->bytes, r->pairs, r->pace_us);
	fputs(", \"model\": ", to);
	json_string(to, options.model);
	fprintf(to, ", \"kernel\": \"%s\", \"stable\": %s, \"spins\": %s", uts.release,
		truth(r->mechanism->stable), truth(r->mechanism->spins));
	if (r->refusal.error) {
		put_skipped(to, &r->refusal);
	} else {
		fprintf(to, ", \"messages\": %llu, \"capacity\": %ld, \"thp_kb\": %.0f",
			(unsigned long long)r->messages, r->capacity, r->thp_kb);
		put_rounds(to, r);
	}
	fputs("}\n", to);
}
