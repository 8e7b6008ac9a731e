// SPDX-License-Identifier: GPL-2.0-only
/* Medians, and how far to trust them. */
#include <math.h>
#include <string.h>

#include "bench.h"

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int compare_floats(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

double percentile_of(float *v, size_t n, double p)
{
	qsort(v, n, sizeof(*v), compare_floats);
	return v[(size_t)(p * (n - 1) + 0.5)];
}

double smallest(const double *v, size_t n)
{
	double best = v[0];

	for (size_t i = 1; i < n; i++)
		best = fmin(best, v[i]);
	return best;
}

double largest(const double *v, size_t n)
{
	double best = v[0];

	for (size_t i = 1; i < n; i++)
		best = fmax(best, v[i]);
	return best;
}

/*
 * How many values to leave out at each end so that what remains still covers
 * the true median with a probability of 95 %: each value lies below it as a
 * coin falls, whatever their distribution. Fewer than 6 values never do; then
 * it is all of them.
 */
static size_t ranks_to_drop(size_t n)
{
	double term = pow(0.5, n), below = 0;
	size_t k;

	for (k = 0; k < n / 2; k++) {
		below += term;
		if (2 * below > 0.05)
			break;
		term *= (double)(n - k) / (k + 1);
	}
	return k ? k - 1 : 0;
}

struct interval median_interval(const double *v, size_t n)
{
	double sorted[MAX_ROUNDS];
	size_t drop = ranks_to_drop(n);
	struct interval i = { NAN, NAN, NAN };

	if (!n)
		return i;
	memcpy(sorted, v, n * sizeof(*v));
	qsort(sorted, n, sizeof(*v), compare_doubles);
	i.median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
	i.low = sorted[drop];
	i.high = sorted[n - 1 - drop];
	return i;
}

double median_of(const double *v, size_t n)
{
	return median_interval(v, n).median;
}

struct interval paired_ratio(const double *a, const double *b, size_t n)
{
	double v[MAX_ROUNDS];

	for (size_t i = 0; i < n; i++)
		v[i] = a[i] / b[i];
	return median_interval(v, n);
}

struct interval paired_difference(const double *a, const double *b, size_t n)
{
	double v[MAX_ROUNDS];

	for (size_t i = 0; i < n; i++)
		v[i] = a[i] - b[i];
	return median_interval(v, n);
}
