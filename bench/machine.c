// SPDX-License-Identifier: GPL-2.0-only
/* The machine and the settings of a run: the first line of the results. */
#define _GNU_SOURCE
#include <dirent.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#if __has_include("cpuid.h")
#include <cpuid.h>
#define HAS_CPUID
#endif

#include "bench.h"

#define BIT_ERMS	(1U << 9)	/* of CPUID 7: rep movsb is fast */
#define CPUS		"/sys/devices/system/cpu/"
#define THP "/sys/kernel/mm/transparent_hugepage/"

const char *this_machine(void)
{
#ifdef HAS_CPUID
	unsigned int id[4] = { 0 }, eax, ebx = 0, ecx = 0, edx;
	char vendor[13] = "";

	if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx & 1U << 31) {
		__cpuid(0x40000000, id[0], id[1], id[2], id[3]);
		memcpy(vendor, &id[1], 12);
	}
	if (!strcmp(vendor, "KVMKVMKVM"))
		return "kvm";
	if (!strcmp(vendor, "TCGTCGTCGTCG")) {
		__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx);
		return ebx & BIT_ERMS ? "max" : "words";
	}
#endif
	return "host";
}

/* Returns a file's first line, or NULL. */
static char *line_of(const char *path)
{
	char *text = slurp(path);

	if (text)
		text[strcspn(text, "\n")] = '\0';
	return text;
}

static void put_text(FILE *to, const char *key, const char *text)
{
	fprintf(to, ", \"%s\": ", key);
	if (text)
		json_string(to, text);
	else
		fputs("null", to);
}

static char *cpu_name(void)
{
	char *text = slurp("/proc/cpuinfo"), *at;

	at = text ? strstr(text, "model name") : NULL;
	at = at ? strchr(at, ':') : NULL;
	if (!at)
		return NULL;
	at += 1 + strspn(at + 1, " ");
	at[strcspn(at, "\n")] = '\0';
	return at;
}

/* Of several words in a file, returns the one in brackets. */
static char *chosen(const char *path)
{
	char *text = line_of(path);
	char *at = text ? strchr(text, '[') : NULL;

	if (!at)
		return text;
	at[strcspn(at, "]")] = '\0';
	return at + 1;
}

static const char *turbo(void)
{
	const char *text = line_of(CPUS "intel_pstate/no_turbo");

	if (text)
		return *text == '0' ? "on" : "off";
	text = line_of(CPUS "cpufreq/boost");
	if (text)
		return *text == '1' ? "on" : "off";
	return NULL;
}

static void put_mitigations(FILE *to)
{
	static const char dir[] = CPUS "vulnerabilities";
	const char *comma = "", *text;
	struct dirent **names;
	char path[512];
	int n = scandir(dir, &names, NULL, alphasort);

	fputs(", \"mitigations\": {", to);
	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.') {
			snprintf(path, sizeof(path), "%s/%s", dir, names[i]->d_name);
			text = line_of(path);
			fputs(comma, to);
			json_string(to, names[i]->d_name);
			fputs(": ", to);
			json_string(to, text ? text : "");
			comma = ", ";
		}
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	fputc('}', to);
}

static int is_node(const struct dirent *d)
{
	return !strncmp(d->d_name, "node", 4) && d->d_name[4] >= '0' && d->d_name[4] <= '9';
}

static int numa_nodes(void)
{
	struct dirent **names;
	int n = scandir("/sys/devices/system/node", &names, is_node, NULL);

	for (int i = 0; i < n; i++)
		free(names[i]);
	if (n >= 0)
		free(names);
	return n > 0 ? n : 1;
}

static void put_command(FILE *to)
{
	char text[4096];
	size_t used = 0;

	text[0] = '\0';
	for (char **word = options.argv + 1; *word && used < sizeof(text); word++)
		used += snprintf(text + used, sizeof(text) - used, "%s%s",
				 used ? " " : "", *word);
	put_text(to, "arguments", text);
}

/* Parses KEY=VALUE KEY=VALUE. A key without a value is a switch. */
static void put_parameters(FILE *to)
{
	char *words = strdup(options.module_args), *word, *value;
	const char *comma = "";

	fputs(", \"parameters\": {", to);
	for (word = strtok(words, " "); word; word = strtok(NULL, " ")) {
		value = strchr(word, '=');
		if (value)
			*value++ = '\0';
		fputs(comma, to);
		json_string(to, word);
		fputs(": ", to);
		json_string(to, value ? value : "");
		comma = ", ";
	}
	fputc('}', to);
	free(words);
}

static void put_extra(FILE *to)
{
	for (size_t i = 0; i < options.nr_extra; i++) {
		char *key = strdup(options.extra[i]), *value = strchr(key, '=');

		*value++ = '\0';
		fputs(", ", to);
		json_string(to, key);
		fputs(": ", to);
		json_string(to, value);
		free(key);
	}
}

void report_run(FILE *to)
{
	struct utsname uts;

	uname(&uts);
	fputs("{\"run\": {\"kernel\": ", to);
	json_string(to, uts.release);
	put_text(to, "boot", line_of("/proc/sys/kernel/random/boot_id"));
	put_text(to, "model", options.model);
	put_text(to, "cpu", cpu_name());
	fprintf(to, ", \"cpus\": %ld", sysconf(_SC_NPROCESSORS_ONLN));
	put_text(to, "thp", chosen(THP "enabled"));
	put_text(to, "thp_shmem", chosen(THP "shmem_enabled"));
	put_parameters(to);
	put_command(to);
	put_text(to, "touch", touch_name(options.touch));
	put_text(to, "route", route_name(options.route));
	fprintf(to, ", \"buffers_huge\": %s, \"align\": %zu, \"read_bytes\": %zu",
		options.huge ? "true" : "false", options.align, options.read_bytes);
	fprintf(to, ", \"working_set\": %zu, \"load\": %u, \"roam\": %s",
		options.working_set, options.load, options.roam ? "true" : "false");
	if (options.processors[0] >= 0)
		fprintf(to, ", \"processors\": [%d, %d]", options.processors[0],
			options.processors[1]);
	else
		fputs(", \"processors\": null", to);
	put_text(to, "governor", line_of(CPUS "cpu0/cpufreq/scaling_governor"));
	put_text(to, "turbo", turbo());
	put_mitigations(to);
	fprintf(to, ", \"numa_nodes\": %d", numa_nodes());
	put_extra(to);
	fputs("}}\n", to);
}
