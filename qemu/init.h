/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Functions that init.c, streams.c and verdict.c share. They are one program, the first
 * process of the guest.
 */
#ifndef ZPIPE_INIT_H
#define ZPIPE_INIT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* init.c */
char *read_file(const char *path, size_t *len);
bool write_file(const char *path, const char *text);

/* streams.c: the command's standard streams and the host's ports */
int open_port(const char *name);
pid_t start_on_pipes(char **argv, char **env);
pid_t start_on_tty(char **argv, char **env, const char *size);
void finish_pipes(int result);
void send_files(int result, const char *dir);

/* verdict.c: problems that the kernel reports */
#define finding(fmt, ...)	finding_("finding " fmt "\n", ##__VA_ARGS__)

void verdict_start(int result);
void finding_(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void verdict_finish(const char *module);

#endif
