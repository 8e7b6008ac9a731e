// SPDX-License-Identifier: GPL-2.0-only
/*
 * The other side of a splice: one of the kernel's own pipes, here called a real pipe, or a
 * file or socket. Follows fs/splice.c.
 *
 * Functions that get a pipe, and do not say otherwise, need its mutex held.
 */
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/log2.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pipe_fs_i.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/splice.h>
#include <linux/uio.h>
#include <linux/wait.h>

#include "helpers.h"

/*
 * A page of zpipe in a real pipe. The buffer owns a reference to the page and one to this
 * module, because it points to the functions here.
 */
static bool page_get(struct pipe_inode_info *pipe, struct pipe_buffer *buf)
{
	if (!generic_pipe_buf_get(pipe, buf))
		return false;
	__module_get(THIS_MODULE);
	return true;
}

static void page_release(struct pipe_inode_info *pipe, struct pipe_buffer *buf)
{
	generic_pipe_buf_release(pipe, buf);
	/* zpipe_splice_exit() waits until this function has returned, too. */
	module_put(THIS_MODULE);
}

/*
 * Gives the page to a file system that wants it for its page cache. It charges the page
 * itself, so the page must not be charged yet.
 */
static bool page_try_steal(struct pipe_inode_info *pipe, struct pipe_buffer *buf)
{
	if (folio_memcg_charged(page_folio(buf->page)))
		return false;
	return generic_pipe_buf_try_steal(pipe, buf);
}

static const struct pipe_buf_operations page_ops = {
	.get		= page_get,
	.release	= page_release,
	.try_steal	= page_try_steal,
};

#if defined(CONFIG_PREEMPTION) && !defined(CONFIG_TASKS_RCU)
#error "synchronize_rcu_tasks() does not wait for tasks that are preempted"
#endif

/* Waits until no task is in a function of page_ops any more. Called when no page is in use. */
void zpipe_splice_exit(void)
{
	synchronize_rcu_tasks();
}

void zpipe_page_get(struct page *page)
{
	get_page(page);
}

/*
 * True if the caller's reference to @page is the only one. Only who has one can make more,
 * so it stays the only one.
 */
bool zpipe_page_is_alone(struct page *page)
{
	return page_count(page) == 1;
}

/* Describes a range of @page, or of the folio whose first page that is. */
struct bio_vec zpipe_page_part(struct page *page, size_t offset, size_t bytes)
{
	struct bio_vec part;

	bvec_set_page(&part, page, bytes, offset);
	return part;
}

/* True if @pipe is the pipe that sendfile() uses inside the kernel. No other task has it. */
bool zpipe_real_is_internal(const struct pipe_inode_info *pipe)
{
	return current->splice_pipe == pipe;
}

/* True if something was removed from the internal @pipe since sendfile() began. */
bool zpipe_real_has_progress(const struct pipe_inode_info *pipe)
{
	/* splice_direct_to_actor() resets both counters at its end. */
	return pipe->tail != 0;
}

/*
 * Makes a real pipe with @slots slots for one call, as sendfile() has one. It belongs to no
 * file, so nobody else can use it, and its mutex is not taken. It has a reader and no
 * writer. Returns NULL if there is no memory. Sleeps. Follows alloc_pipe_info().
 */
struct pipe_inode_info *zpipe_internal_new(size_t slots)
{
	struct pipe_inode_info *pipe = kzalloc(sizeof(*pipe), GFP_KERNEL_ACCOUNT);
	size_t size = roundup_pow_of_two(slots);

	if (!pipe)
		return NULL;
	pipe->bufs = kvcalloc(size, sizeof(*pipe->bufs), GFP_KERNEL_ACCOUNT);
	if (!pipe->bufs) {
		kfree(pipe);
		return NULL;
	}
	mutex_init(&pipe->mutex);
	init_waitqueue_head(&pipe->rd_wait);
	init_waitqueue_head(&pipe->wr_wait);
	pipe->max_usage = slots;
	pipe->ring_size = size;
	pipe->readers = 1;
	return pipe;
}

/* Empties the internal @pipe. Returns how many bytes were in it. */
size_t zpipe_internal_clear(struct pipe_inode_info *pipe)
{
	size_t bytes = 0;

	while (!pipe_is_empty(pipe)) {
		struct pipe_buffer *buf = pipe_buf(pipe, pipe->tail);

		bytes += buf->len;
		pipe_buf_release(pipe, buf);
		pipe->tail++;
	}
	return bytes;
}

void zpipe_internal_free(struct pipe_inode_info *pipe)
{
	zpipe_internal_clear(pipe);
	kvfree(pipe->bufs);
	kfree(pipe);
}

void zpipe_real_lock(struct pipe_inode_info *pipe)
{
	pipe_lock(pipe);
}

void zpipe_real_unlock(struct pipe_inode_info *pipe)
{
	pipe_unlock(pipe);
}

/* True if some task holds the mutex of @pipe. */
bool zpipe_real_is_locked(struct pipe_inode_info *pipe)
{
	return mutex_is_locked(&pipe->mutex);
}

/* The number of free slots. F_SETPIPE_SZ never makes a pipe smaller than what is in it. */
size_t zpipe_real_free(const struct pipe_inode_info *pipe)
{
	unsigned int used = pipe_buf_usage(pipe);

	return used < pipe->max_usage ? pipe->max_usage - used : 0;
}

/*
 * Fills a free slot with @bytes bytes of @page from @offset on. The slot takes over the
 * caller's reference to the page. The caller is a function of this module, which therefore
 * is not being unloaded.
 */
void zpipe_real_push(struct pipe_inode_info *pipe, struct page *page, size_t offset,
		     size_t bytes, bool packet)
{
	struct pipe_buffer *buf = pipe_head_buf(pipe);

	__module_get(THIS_MODULE);
	*buf = (struct pipe_buffer) {
		.page	= page,
		.offset	= offset,
		.len	= bytes,
		.ops	= &page_ops,
		.flags	= packet ? PIPE_BUF_FLAG_PACKET : 0,
	};
	pipe->head++;
}

static bool readable(const struct pipe_inode_info *pipe)
{
	union pipe_index idx = { .head_tail = READ_ONCE(pipe->head_tail) };

	return !pipe_empty(idx.head, idx.tail) || !READ_ONCE(pipe->writers);
}

static bool writable(const struct pipe_inode_info *pipe)
{
	union pipe_index idx = { .head_tail = READ_ONCE(pipe->head_tail) };

	return !pipe_full(idx.head, idx.tail, READ_ONCE(pipe->max_usage)) ||
	       !READ_ONCE(pipe->readers);
}

/*
 * Waits for a free slot, without the mutex. Returns 0, -EPIPE (with SIGPIPE) if there is no
 * reader, -EAGAIN if it must not wait, or -ERESTARTSYS. Follows wait_for_space().
 */
int zpipe_real_wait_for_space(struct pipe_inode_info *pipe, bool nonblock)
{
	for (;;) {
		if (!pipe->readers) {
			send_sig(SIGPIPE, current, 0);
			return -EPIPE;
		}
		if (!pipe_is_full(pipe))
			return 0;
		if (nonblock)
			return -EAGAIN;
		if (signal_pending(current))
			return -ERESTARTSYS;
		pipe_unlock(pipe);
		wait_event_interruptible(pipe->wr_wait, writable(pipe));
		pipe_lock(pipe);
	}
}

/* Frees the slots at the front that hold no bytes. */
static void drop_empty(struct pipe_inode_info *pipe)
{
	while (!pipe_is_empty(pipe)) {
		struct pipe_buffer *buf = pipe_buf(pipe, pipe->tail);

		if (buf->len)
			break;
		pipe_buf_release(pipe, buf);
		pipe->tail++;
	}
}

/*
 * Waits for data, without the mutex. Returns 1, 0 at the end of the data, -EAGAIN if it
 * must not wait, or -ERESTARTSYS. Follows ipipe_prep().
 */
int zpipe_real_wait_for_data(struct pipe_inode_info *pipe, bool nonblock)
{
	for (;;) {
		drop_empty(pipe);
		if (!pipe_is_empty(pipe))
			return 1;
		if (signal_pending(current))
			return -ERESTARTSYS;
		if (!pipe->writers)
			return 0;
		if (nonblock)
			return -EAGAIN;
		pipe_unlock(pipe);
		wait_event_interruptible(pipe->rd_wait, readable(pipe));
		pipe_lock(pipe);
	}
}

/*
 * Describes the bytes at the front of @pipe: at most @max bytes in at most @nr_parts parts,
 * all of them of a stream, or of one packet. Sets @packet accordingly.
 *
 * Returns the number of parts, or a negative error if the first bytes cannot be had. It may
 * wait until a page has been read from disk, as fs/splice.c does.
 */
ssize_t zpipe_real_peek(struct pipe_inode_info *pipe, size_t max, struct bio_vec *parts,
			size_t nr_parts, size_t *bytes, bool *packet)
{
	unsigned int tail = pipe->tail;
	size_t n = 0;

	*bytes = 0;
	for (; n < nr_parts && max && !pipe_empty(pipe->head, tail); tail++) {
		struct pipe_buffer *buf = pipe_buf(pipe, tail);
		bool is_packet = buf->flags & PIPE_BUF_FLAG_PACKET;
		size_t len = min_t(size_t, buf->len, max);
		int err;

		if (!len)
			continue;
		if (n && (is_packet || *packet))
			break;
		err = pipe_buf_confirm(pipe, buf);
		if (err)
			/* -ENODATA: the file that the page came from was truncated. */
			return n || err == -ENODATA ? n : err;
		*packet = is_packet;
		bvec_set_page(&parts[n++], buf->page, len, buf->offset);
		*bytes += len;
		max -= len;
	}
	return n;
}

/* Removes @bytes bytes from the front of @pipe. Returns true if that freed a slot. */
bool zpipe_real_consume(struct pipe_inode_info *pipe, size_t bytes)
{
	unsigned int before = pipe->tail;

	while (bytes && !pipe_is_empty(pipe)) {
		struct pipe_buffer *buf = pipe_buf(pipe, pipe->tail);
		size_t len = min_t(size_t, buf->len, bytes);

		buf->offset += len;
		buf->len -= len;
		bytes -= len;
		if (!buf->len) {
			pipe_buf_release(pipe, buf);
			pipe->tail++;
		}
	}
	return pipe->tail != before;
}

/* Wakes the writers of @pipe. Follows wakeup_pipe_writers(). */
void zpipe_real_wake_writers(struct pipe_inode_info *pipe)
{
	/* The change of the tail comes before the test for waiters. */
	if (wq_has_sleeper(&pipe->wr_wait))
		wake_up_interruptible(&pipe->wr_wait);
	kill_fasync(&pipe->fasync_writers, SIGIO, POLL_OUT);
}

/* True if @file is a FIFO or an end of a pipe, by the type of its inode. */
bool zpipe_file_is_fifo(const struct file *file)
{
	return S_ISFIFO(file_inode(file)->i_mode);
}

/*
 * True if copy_splice_read() has called ->read_iter() with the mutex of a real pipe held. It
 * does that with a file that has O_DIRECT. Others that read to kernel pages in this way do
 * not hold that mutex, but nothing tells them apart.
 */
bool zpipe_is_splice_copy(const struct kiocb *iocb, const struct iov_iter *to)
{
	return iov_iter_is_bvec(to) && is_sync_kiocb((struct kiocb *)iocb);
}

/*
 * Checks whether @file can be the other side of a splice that @writes to it, or reads from
 * it: at an offset of its own, or with @at, at one that the caller chose. Returns 0,
 * -EBADF or -EINVAL. Follows do_splice().
 */
int zpipe_file_check(const struct file *file, bool writes, bool at)
{
	fmode_t needed = writes ? FMODE_WRITE : FMODE_READ;
	fmode_t offset = writes ? FMODE_PWRITE : FMODE_PREAD;

	if (!(file->f_mode & needed))
		return -EBADF;
	if (at && !(file->f_mode & offset))
		return -EINVAL;
	if (writes && (file->f_flags & O_APPEND))
		return -EINVAL;
	if (writes ? !file->f_op->splice_write : !file->f_op->splice_read)
		return -EINVAL;
	return 0;
}

/* Waits as long as the file system of @file is frozen. Sleeps. */
void zpipe_file_start_write(struct file *file)
{
	file_start_write(file);
}

void zpipe_file_end_write(struct file *file)
{
	file_end_write(file);
}

/*
 * Writes at most @bytes bytes of @pipe to @file at *@pos, and advances that. What the file
 * has taken is removed from @pipe. Returns the number of bytes or a negative error. Sleeps.
 * The caller has called zpipe_file_check() and zpipe_file_start_write().
 */
ssize_t zpipe_file_splice_write(struct file *file, struct pipe_inode_info *pipe,
				loff_t *pos, size_t bytes, unsigned int flags)
{
	ssize_t ret;

	ret = file->f_op->splice_write(pipe, file, pos, bytes, flags);
	if (ret > 0)
		fsnotify_modify(file);
	return ret;
}

/*
 * Reads at most @bytes bytes of @file at *@pos into @pipe, and advances *@pos. Returns the
 * number of bytes or a negative error. Sleeps.
 */
ssize_t zpipe_file_splice_read(struct file *file, struct pipe_inode_info *pipe, loff_t *pos,
			       size_t bytes, unsigned int flags)
{
	ssize_t ret = vfs_splice_read(file, pos, pipe, bytes, flags);

	if (ret > 0)
		fsnotify_access(file);
	return ret;
}

loff_t zpipe_file_pos(const struct file *file)
{
	return file->f_pos;
}

/* Like splice(2), sets the position without the lock that read(2) and write(2) take. */
void zpipe_file_set_pos(struct file *file, loff_t pos)
{
	file->f_pos = pos;
}
