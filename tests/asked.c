// SPDX-License-Identifier: GPL-2.0-only
/*
 * Security modules are asked for permission when ZPIPE_IOC_GIFT writes and
 * ZPIPE_IOC_MOVE reads. For pipe(2) the same test uses writev(2) and readv(2).
 */
#include "gift.h"
#include "debug.h"

#define PROBE	"zpipe_asked"
#define FILTER	"events/kprobes/" PROBE "/filter"

/* MAY_READ and MAY_WRITE as the kprobe event prints them. */
#define READS	"mask=0x4"
#define WRITES	"mask=0x2"

/* Counts the occurrences of @word that end a line or stand before a space. */
static int count(const char *text, const char *word)
{
	int n = 0;

	while ((text = strstr(text, word))) {
		text += strlen(word);
		n += *text == '\n' || *text == ' ';
	}
	return n;
}

TEST_F(all, security_modules_are_asked)
{
	struct iovec five = { "12345", 5 }, to = { (char [5]) {}, 5 };
	struct trace t = {};
	char filter[40], *text;
	struct stat st;

	ASSERT_EQ(0, fstat(self->e.fd[0], &st));
	ASSERT_EQ(0, mount_once("tracefs", TRACEFS, TRACEFS_MAGIC));
	if (write_line(TRACEFS, "kprobe_events",
		       "p:" PROBE " security_file_permission mask=$arg2:x32"))
		SKIP(return, "a kernel without kprobe events");
	ASSERT_EQ(0, trace_start(&t, &st));
	ASSERT_EQ(0, trace_enable(&t, "zpipe", false));
	snprintf(filter, sizeof(filter), "common_pid == %d", getpid());
	ASSERT_EQ(0, write_line(t.dir, FILTER, filter));
	ASSERT_EQ(0, trace_enable(&t, "kprobes/" PROBE, true));
	EXPECT_EQ(5, gift_flags(&self->e, &five, 1, 0).ret);
	EXPECT_EQ(5, fetch(&self->e, to.iov_base, 5, 0).ret);
	/* This disables the event with a write(2), which the event records, too. */
	ASSERT_EQ(0, trace_enable(&t, "kprobes/" PROBE, false));
	text = trace_text(&t);
	EXPECT_EQ(1, count(text, READS));
	EXPECT_EQ(2, count(text, WRITES));
	free(text);
	trace_end(&t);
	EXPECT_EQ(0, write_line(TRACEFS, "kprobe_events", "-:" PROBE));
}

TEST_HARNESS_MAIN
