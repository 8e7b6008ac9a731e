// SPDX-License-Identifier: GPL-2.0-only
/* Results as JSON, one object a line, and as a table. */
#include <math.h>
#include <sys/utsname.h>

#include "bench.h"

static const char * const count_names[COUNTS] = {
	[CTXSW] = "ctxsw", [FAULTS] = "faults", [ALLOCS] = "allocs",
	[WAKEUPS] = "wakeups",
};

const char *size_name(size_t bytes)
{
	static char name[32];

	if (bytes >= 1 << 20 && bytes % (1 << 20) == 0)
		snprintf(name, sizeof(name), "%zu MiB", bytes >> 20);
	else if (bytes >= 1 << 10 && bytes % (1 << 10) == 0)
		snprintf(name, sizeof(name), "%zu KiB", bytes >> 10);
	else
		snprintf(name, sizeof(name), "%zu B", bytes);
	return name;
}

static void put_number(FILE *to, const char *key, double v)
{
	if (isfinite(v))
		fprintf(to, "\"%s\": %.6g", key, v);
	else
		fprintf(to, "\"%s\": null", key);
}

static void put_interval(FILE *to, const char *key, struct interval i)
{
	fprintf(to, "\"%s\": {", key);
	put_number(to, "median", i.median);
	fputs(", ", to);
	put_number(to, "low", i.low);
	fputs(", ", to);
	put_number(to, "high", i.high);
	fputs("}, ", to);
}

/* Wakeups are counted in rounds of their own. */
static unsigned int rounds_of(const struct result *r, enum count what)
{
	return what == WAKEUPS ? r->counted : r->rounds;
}

static void put_counts(FILE *to, const struct result *r, const struct result *pipe)
{
	const char *comma = "";

	fputs("\"per_mib\": {", to);
	for (enum count i = 0; i < COUNTS; i++) {
		fputs(comma, to);
		put_number(to, count_names[i],
			   median_of(r->per_mib[i], rounds_of(r, i)));
		comma = ", ";
	}
	fputs("}, \"per_mib_beyond_pipe\": {", to);
	comma = "";
	for (enum count i = 0; i < COUNTS; i++) {
		struct interval d = { NAN, NAN, NAN };

		if (pipe)
			d = paired_difference(r->per_mib[i], pipe->per_mib[i],
					      rounds_of(r, i));
		fprintf(to, "%s\"%s\": [", comma, count_names[i]);
		if (isfinite(d.low))
			fprintf(to, "%.6g, %.6g, %.6g", d.low, d.median, d.high);
		fputs("]", to);
		comma = ", ";
	}
	fputs("}, ", to);
}

static void put_rtt(FILE *to, const struct result *r, const struct result *pipe)
{
	struct interval none = { NAN, NAN, NAN };

	if (!r->rtt_rounds) {
		fputs("\"rtt_us\": null, ", to);
		return;
	}
	fputs("\"rtt_us\": {", to);
	put_number(to, "median", median_of(r->rtt_us, r->rtt_rounds));
	fputs(", ", to);
	put_number(to, "p99", r->rtt_p99);
	fprintf(to, ", \"samples\": %u}, ", r->rtt_rounds * r->rtt_messages);
	put_interval(to, "rtt_ratio_to_pipe",
		     pipe ? paired_ratio(r->rtt_us, pipe->rtt_us, r->rtt_rounds) : none);
}

void report_json(FILE *to, const char *model, const struct result *r,
		 const struct result *pipe)
{
	struct interval none = { NAN, NAN, NAN };
	unsigned int n = r->rounds;
	struct utsname uts;

	uname(&uts);
	fprintf(to, "{\"mechanism\": \"%s\", \"bytes\": %zu, \"pairs\": %u, ",
		r->mechanism->name, r->bytes, r->pairs);
	fprintf(to, "\"model\": \"%s\", \"kernel\": \"%s\", ", model, uts.release);
	fprintf(to, "\"gbps\": {\"median\": %.6g, \"min\": %.6g, \"max\": %.6g}, ",
		median_of(r->gbps, n), smallest(r->gbps, n), largest(r->gbps, n));
	put_number(to, "cpu_ns_per_kib", median_of(r->cpu_ns_per_kib, n));
	fputs(", ", to);
	put_rtt(to, r, pipe);
	put_interval(to, "ratio_to_pipe",
		     pipe ? paired_ratio(r->gbps, pipe->gbps, n) : none);
	put_interval(to, "cpu_ratio_to_pipe",
		     pipe ? paired_ratio(r->cpu_ns_per_kib, pipe->cpu_ns_per_kib, n) : none);
	put_counts(to, r, pipe);
	fprintf(to, "\"messages\": %llu, \"rounds\": %u, \"gbps_rounds\": [",
		(unsigned long long)r->messages, n);
	for (unsigned int i = 0; i < n; i++)
		fprintf(to, "%s%.4g", i ? ", " : "", r->gbps[i]);
	fputs("]}\n", to);
	fflush(to);
}

void report_head(FILE *to, size_t bytes, unsigned int pairs)
{
	fprintf(to, "\n%s, %u pair%s\n", size_name(bytes), pairs, pairs > 1 ? "s" : "");
	fprintf(to, "%-11s %7s %15s %21s %8s  %8s %8s %8s %8s %9s %8s\n", "", "GB/s",
		"min..max", "to pipe (95 %)", "ns/KiB", "ctxsw", "faults", "allocs",
		"wakeups", "rtt us", "p99");
}

void report_row(FILE *to, const struct result *r, const struct result *pipe)
{
	unsigned int n = r->rounds;
	char range[32], ratio[40] = "";
	struct interval i;

	snprintf(range, sizeof(range), "%.3f..%.3f", smallest(r->gbps, n),
		 largest(r->gbps, n));
	if (pipe) {
		i = paired_ratio(r->gbps, pipe->gbps, n);
		snprintf(ratio, sizeof(ratio), "%.2f (%.2f..%.2f)", i.median, i.low,
			 i.high);
	}
	fprintf(to, "%-11s %7.3f %15s %21s %8.0f ", r->mechanism->name,
		median_of(r->gbps, n), range, ratio, median_of(r->cpu_ns_per_kib, n));
	for (enum count k = 0; k < COUNTS; k++)
		fprintf(to, " %8.4g", median_of(r->per_mib[k], rounds_of(r, k)));
	if (r->rtt_rounds)
		fprintf(to, " %9.1f %8.1f", median_of(r->rtt_us, r->rtt_rounds),
			r->rtt_p99);
	fputc('\n', to);
	fflush(to);
}
