// SPDX-License-Identifier: GPL-2.0-only
/*
 * The tracepoints, and their callers for rust/trace.rs, which asks first
 * whether they are on.
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

void zpipe_trace_offer(u32 dev, u64 ino, size_t bytes)
{
	trace_zpipe_offer(dev, ino, bytes);
}

void zpipe_trace_pull(u32 dev, u64 ino, size_t bytes, u32 end)
{
	trace_zpipe_pull(dev, ino, bytes, end);
}

void zpipe_trace_push(u32 dev, u64 ino, size_t bytes, u32 end)
{
	trace_zpipe_push(dev, ino, bytes, end);
}
