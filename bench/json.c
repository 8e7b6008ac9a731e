// SPDX-License-Identifier: GPL-2.0-only
/* JSON strings and lists. */
#include <math.h>

#include "bench.h"

/* Bytes that are not ASCII are taken as UTF-8. */
void json_string(FILE *to, const char *text)
{
	fputc('"', to);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fprintf(to, "\\%c", *text);
		else if ((unsigned char)*text < ' ')
			fprintf(to, "\\u%04x", *text);
		else
			fputc(*text, to);
	}
	fputc('"', to);
}

void json_list(FILE *to, const char *key, const double *v, unsigned int n)
{
	fprintf(to, ", \"%s\": [", key);
	for (unsigned int i = 0; i < n; i++)
		fprintf(to, isfinite(v[i]) ? "%s%.6g" : "%snull", i ? ", " : "", v[i]);
	fputc(']', to);
}

/* Writes a list of lists. Each begins @stride numbers behind the previous one. */
void json_floats(FILE *to, const char *key, const float *v, unsigned int lists,
		 const unsigned int *each, unsigned int stride)
{
	fprintf(to, ", \"%s\": [", key);
	for (unsigned int i = 0; i < lists; i++, v += stride) {
		fputs(i ? ", [" : "[", to);
		for (unsigned int k = 0; k < each[i]; k++)
			fprintf(to, "%s%.2f", k ? ", " : "", v[k]);
		fputc(']', to);
	}
	fputc(']', to);
}
