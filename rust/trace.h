/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The tracepoints of zpipe. Each one names the pipe by the device and the number of its
 * inode, as fstat(2) shows them. For a pair /proc/PID/fd shows the number, too.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM zpipe

#if !defined(ZPIPE_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define ZPIPE_TRACE_H

#include <linux/tracepoint.h>
#include <linux/kdev_t.h>

#include "helpers.h"

/*
 * A read or a write of @asked bytes has returned @result: bytes or a negative error. Calls
 * that began before the tracepoint was turned on are not recorded.
 */
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

/* An event of the readers, the writers, or the owner of the posted write. */
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

/* A reader, a writer or an owner has to wait: it is about to spin or sleep. */
DEFINE_EVENT(zpipe_side, zpipe_wait,
	     TP_PROTO(dev_t dev, u64 ino, u32 who),
	     TP_ARGS(dev, ino, who)
);

/* A task wakes readers, writers or the owner. Recorded even if none of them waits. */
DEFINE_EVENT(zpipe_side, zpipe_wake,
	     TP_PROTO(dev_t dev, u64 ino, u32 who),
	     TP_ARGS(dev, ino, who)
);

/* A writer has posted @bytes bytes of its memory. */
TRACE_EVENT(zpipe_post,
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

/* A direct transfer of @bytes bytes has ended. @outcome says why it ended there. */
DECLARE_EVENT_CLASS(zpipe_copy,
		    TP_PROTO(dev_t dev, u64 ino, size_t bytes, u32 outcome),
		    TP_ARGS(dev, ino, bytes, outcome),
		    TP_STRUCT__entry(__field(dev_t, dev)
				     __field(u64, ino)
				     __field(size_t, bytes)
				     __field(u32, outcome)),
		    TP_fast_assign(__entry->dev = dev;
				   __entry->ino = ino;
				   __entry->bytes = bytes;
				   __entry->outcome = outcome;),
		    TP_printk("dev=%u:%u ino=%llu bytes=%zu outcome=%s",
			      MAJOR(__entry->dev), MINOR(__entry->dev),
			      __entry->ino, __entry->bytes,
			      __print_symbolic(__entry->outcome,
					       { ZPIPE_COPY_ALL, "all" },
					       { ZPIPE_COPY_STOPPED, "stopped" },
					       { ZPIPE_COPY_BUSY, "busy" },
					       { ZPIPE_COPY_MAPPING, "mapping" },
					       { ZPIPE_COPY_PAGE, "page" }))
);

/* A reader has pulled from a posted write. */
DEFINE_EVENT(zpipe_copy, zpipe_pull,
	     TP_PROTO(dev_t dev, u64 ino, size_t bytes, u32 outcome),
	     TP_ARGS(dev, ino, bytes, outcome)
);

/* A writer has pushed to a posted read. */
DEFINE_EVENT(zpipe_copy, zpipe_push,
	     TP_PROTO(dev_t dev, u64 ino, size_t bytes, u32 outcome),
	     TP_ARGS(dev, ino, bytes, outcome)
);

#endif /* ZPIPE_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
