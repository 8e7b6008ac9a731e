/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The tracepoints of zpipe. A pipe is named by its inode, as fstat(2) and
 * /proc/PID/fd name it.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM zpipe

#if !defined(ZPIPE_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define ZPIPE_TRACE_H

#include <linux/tracepoint.h>
#include <linux/kdev_t.h>

#include "helpers.h"

/* A read or write is over, that began when this was on. */
DECLARE_EVENT_CLASS(zpipe_transfer,
		    TP_PROTO(dev_t dev, u64 ino, size_t asked, ssize_t result),
		    TP_ARGS(dev, ino, asked, result),
		    TP_STRUCT__entry(__field(dev_t, dev)
				     __field(u64, ino)
				     __field(size_t, asked)
				     __field(ssize_t, result)),
		    TP_fast_assign(__entry->dev = dev;
				   __entry->ino = ino;
				   __entry->asked = asked;
				   __entry->result = result;),
		    TP_printk("dev=%u:%u ino=%llu asked=%zu result=%zd",
			      MAJOR(__entry->dev), MINOR(__entry->dev),
			      __entry->ino, __entry->asked, __entry->result)
);

DEFINE_EVENT(zpipe_transfer, zpipe_read,
	     TP_PROTO(dev_t dev, u64 ino, size_t asked, ssize_t result),
	     TP_ARGS(dev, ino, asked, result)
);

DEFINE_EVENT(zpipe_transfer, zpipe_write,
	     TP_PROTO(dev_t dev, u64 ino, size_t asked, ssize_t result),
	     TP_ARGS(dev, ino, asked, result)
);

DECLARE_EVENT_CLASS(zpipe_side,
		    TP_PROTO(dev_t dev, u64 ino, u32 who),
		    TP_ARGS(dev, ino, who),
		    TP_STRUCT__entry(__field(dev_t, dev)
				     __field(u64, ino)
				     __field(u32, who)),
		    TP_fast_assign(__entry->dev = dev;
				   __entry->ino = ino;
				   __entry->who = who;),
		    TP_printk("dev=%u:%u ino=%llu who=%s",
			      MAJOR(__entry->dev), MINOR(__entry->dev),
			      __entry->ino,
			      __print_symbolic(__entry->who,
					       { ZPIPE_READER, "reader" },
					       { ZPIPE_WRITER, "writer" },
					       { ZPIPE_OWNER, "owner" }))
);

/* A reader or writer cannot go on, and spins or sleeps. */
DEFINE_EVENT(zpipe_side, zpipe_wait,
	     TP_PROTO(dev_t dev, u64 ino, u32 who),
	     TP_ARGS(dev, ino, who)
);

/* There is something for readers or writers, whether anybody waits or not. */
DEFINE_EVENT(zpipe_side, zpipe_wake,
	     TP_PROTO(dev_t dev, u64 ino, u32 who),
	     TP_ARGS(dev, ino, who)
);

/* A writer offers what it has left to readers. */
TRACE_EVENT(zpipe_offer,
	    TP_PROTO(dev_t dev, u64 ino, size_t bytes),
	    TP_ARGS(dev, ino, bytes),
	    TP_STRUCT__entry(__field(dev_t, dev)
			     __field(u64, ino)
			     __field(size_t, bytes)),
	    TP_fast_assign(__entry->dev = dev;
			   __entry->ino = ino;
			   __entry->bytes = bytes;),
	    TP_printk("dev=%u:%u ino=%llu bytes=%zu",
		      MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino,
		      __entry->bytes)
);

/* Bytes went straight from one process to the other, and why no more. */
DECLARE_EVENT_CLASS(zpipe_copy,
		    TP_PROTO(dev_t dev, u64 ino, size_t bytes, u32 end),
		    TP_ARGS(dev, ino, bytes, end),
		    TP_STRUCT__entry(__field(dev_t, dev)
				     __field(u64, ino)
				     __field(size_t, bytes)
				     __field(u32, end)),
		    TP_fast_assign(__entry->dev = dev;
				   __entry->ino = ino;
				   __entry->bytes = bytes;
				   __entry->end = end;),
		    TP_printk("dev=%u:%u ino=%llu bytes=%zu end=%s",
			      MAJOR(__entry->dev), MINOR(__entry->dev),
			      __entry->ino, __entry->bytes,
			      __print_symbolic(__entry->end,
					       { ZPIPE_COPY_ALL, "all" },
					       { ZPIPE_COPY_STOPPED, "stopped" },
					       { ZPIPE_COPY_BUSY, "busy" },
					       { ZPIPE_COPY_MAPPING, "mapping" },
					       { ZPIPE_COPY_PAGE, "page" }))
);

/* A reader took of what a writer offers. */
DEFINE_EVENT(zpipe_copy, zpipe_pull,
	     TP_PROTO(dev_t dev, u64 ino, size_t bytes, u32 end),
	     TP_ARGS(dev, ino, bytes, end)
);

/* A writer gave to a reader that waits. */
DEFINE_EVENT(zpipe_copy, zpipe_push,
	     TP_PROTO(dev_t dev, u64 ino, size_t bytes, u32 end),
	     TP_ARGS(dev, ino, bytes, end)
);

#endif /* ZPIPE_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
