// SPDX-License-Identifier: GPL-2.0-only
/*
 * The tracepoints of zpipe, and a function to call each of them from Rust.
 *
 * rust/trace.rs tests first whether the tracepoint is on, so that a tracepoint that is
 * off costs no call.
 */
#define CREATE_TRACE_POINTS
#include "trace.h"

void zpipe_trace_read(u32 dev, u64 ino, size_t asked, ssize_t result)
{
	trace_zpipe_read(dev, ino, asked, result);
}

void zpipe_trace_write(u32 dev, u64 ino, size_t asked, ssize_t result)
{
	trace_zpipe_write(dev, ino, asked, result);
}

void zpipe_trace_wait(u32 dev, u64 ino, u32 who)
{
	trace_zpipe_wait(dev, ino, who);
}

void zpipe_trace_wake(u32 dev, u64 ino, u32 who)
{
	trace_zpipe_wake(dev, ino, who);
}

void zpipe_trace_post(u32 dev, u64 ino, size_t bytes)
{
	trace_zpipe_post(dev, ino, bytes);
}

void zpipe_trace_pull(u32 dev, u64 ino, size_t bytes, u32 outcome)
{
	trace_zpipe_pull(dev, ino, bytes, outcome);
}

void zpipe_trace_push(u32 dev, u64 ino, size_t bytes, u32 outcome)
{
	trace_zpipe_push(dev, ino, bytes, outcome);
}
