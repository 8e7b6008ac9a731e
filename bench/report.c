// SPDX-License-Identifier: GPL-2.0-only
/* What was measured, round by round: one JSON object a line. */
#include <math.h>
#include <sys/utsname.h>

#include "bench.h"

static void put_list(FILE *to, const char *key, const double *v, unsigned int n)
{
	fprintf(to, ", \"%s\": [", key);
	for (unsigned int i = 0; i < n; i++)
		fprintf(to, isfinite(v[i]) ? "%s%.6g" : "%snull", i ? ", " : "", v[i]);
	fputc(']', to);
}

static void put_trips(FILE *to, const struct result *r)
{
	const float *trip = r->trips;

	fputs(", \"trips_us\": [", to);
	for (unsigned int i = 0; i < r->rtt_rounds; i++) {
		fputs(i ? ", [" : "[", to);
		for (unsigned int k = 0; k < r->rtt_messages; k++)
			fprintf(to, "%s%.2f", k ? ", " : "", *trip++);
		fputc(']', to);
	}
	fputc(']', to);
}

void report(FILE *to, const char *model, const struct result *r)
{
	struct utsname uts;

	uname(&uts);
	fprintf(to, "{\"mechanism\": \"%s\", \"bytes\": %zu, \"pairs\": %u",
		r->mechanism->name, r->bytes, r->pairs);
	fprintf(to, ", \"model\": \"%s\", \"kernel\": \"%s\", \"messages\": %llu",
		model, uts.release, (unsigned long long)r->messages);
	put_list(to, "gbps", r->gbps, r->rounds);
	put_list(to, "cpu_ns_per_kib", r->cpu_ns_per_kib, r->rounds);
	put_list(to, "ctxsw", r->ctxsw, r->rounds);
	put_list(to, "faults", r->faults, r->rounds);
	put_list(to, "allocs", r->allocs, r->rounds);
	put_list(to, "pulled", r->pulled, r->rounds);
	put_list(to, "pushed", r->pushed, r->rounds);
	put_list(to, "wakeups", r->wakeups, r->counted);
	put_trips(to, r);
	fputs("}\n", to);
}
