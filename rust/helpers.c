// SPDX-License-Identifier: GPL-2.0-only

#include <linux/cred.h>
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/hash.h>
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/pkeys.h>
#include <linux/poll.h>
#include <linux/sched/xacct.h>
#include <linux/sched/clock.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/sched/user.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/wait.h>

#include "helpers.h"

static u8 cut_copies;

/*
 * For tests. 1: as if a page were missing in the middle of about every other copy;
 * 2: as if the first were missing in each, whatever is done about it.
 */
void zpipe_cut_copies(u8 how)
{
	WRITE_ONCE(cut_copies, how);
}

static size_t cut(size_t bytes)
{
	static atomic_t copies;
	u8 how = READ_ONCE(cut_copies);

	if (likely(!how))
		return bytes;
	if (how == 2)
		return 0;
	/* Without a period, which a call's copies would fall into step with. */
	return hash_32(atomic_inc_return(&copies), 1) ? bytes / 2 : bytes;
}

/* As copy_page_from_iter(), but stops short where it would have to fault. */
size_t zpipe_page_from_iter_atomic(struct page *page, size_t offset,
				   size_t bytes, struct iov_iter *from)
{
	size_t copied;

	pagefault_disable();
	copied = copy_page_from_iter(page, offset, cut(bytes), from);
	pagefault_enable();
	return copied;
}

bool zpipe_access_ok(unsigned long at, size_t bytes)
{
	return access_ok((void __user *)at, bytes);
}

/* The caller's memory as what writev(2) is given; it has been checked. */
void zpipe_import_source(struct iov_iter *iter, const struct iovec *iov,
			 size_t count, size_t bytes)
{
	iov_iter_init(iter, ITER_SOURCE, iov, count, bytes);
}

/* The same with memory to write to. */
void zpipe_import_dest(struct iov_iter *iter, const struct iovec *iov, size_t count,
		       size_t bytes)
{
	iov_iter_init(iter, ITER_DEST, iov, count, bytes);
}

/* Whether somebody uses an address space, and not only its struct. */
bool zpipe_mm_is_used(struct mm_struct *mm)
{
	return atomic_read(&mm->mm_users) != 0;
}

unsigned long zpipe_ram_pages(void)
{
	return totalram_pages();
}

/* What security modules, and who watches the file, have against it. */
static int may_transfer(int direction, struct file *file, size_t bytes)
{
	/* As vfs_readv() and vfs_writev(): nobody is asked about nothing. */
	return bytes ? rw_verify_area(direction, file, NULL, bytes) : 0;
}

int zpipe_file_may_read(struct file *file, size_t bytes)
{
	return may_transfer(READ, file, bytes);
}

int zpipe_file_may_write(struct file *file, size_t bytes)
{
	return may_transfer(WRITE, file, bytes);
}

/* What vfs_read() tells of a read, and vfs_write() of a write. */
void zpipe_file_read(struct file *file, size_t bytes)
{
	fsnotify_access(file);
	add_rchar(current, bytes);
	inc_syscr(current);
}

void zpipe_file_wrote(struct file *file, size_t bytes)
{
	fsnotify_modify(file);
	add_wchar(current, bytes);
	inc_syscw(current);
}

/* As copy_page_to_iter(), but stops short where it would have to fault. */
size_t zpipe_page_to_iter_atomic(struct page *page, size_t offset,
				 size_t bytes, struct iov_iter *to)
{
	size_t copied;

	pagefault_disable();
	copied = copy_page_to_iter(page, offset, cut(bytes), to);
	pagefault_enable();
	return copied;
}

/* How many of @count pages lie one after the other in one folio. */
static size_t run_of(struct page **pages, size_t count)
{
	struct folio *folio = page_folio(pages[0]);
	size_t n = 1;

	count = min(count, folio_nr_pages(folio) - folio_page_idx(folio, pages[0]));
	while (n < count && pages[n] == pages[0] + n)
		n++;
	return n;
}

/*
 * Copies @bytes bytes to as many pages as that takes, from @offset in the first
 * on, as far as it goes without a fault.
 */
size_t zpipe_pages_from_iter_atomic(struct page **pages, size_t offset,
				    size_t bytes, struct iov_iter *from)
{
	size_t done = 0;

	bytes = cut(bytes);
	pagefault_disable();
	while (done < bytes) {
		size_t left = DIV_ROUND_UP(offset + bytes - done, PAGE_SIZE);
		size_t run = run_of(pages, left);
		size_t want = min(bytes - done, run * PAGE_SIZE - offset);
		size_t n = copy_page_from_iter(*pages, offset, want, from);

		done += n;
		if (n < want)
			break;
		pages += run;
		offset = 0;
	}
	pagefault_enable();
	return done;
}

/*
 * Whether the next byte of an iterator can be written without a fault, with
 * faults disabled: by writing a zero there. Nothing else would do under a lock:
 * fault_in_iov_iter_writeable() faults by hand, whether that is disabled or not.
 */
static bool is_writable(const struct iov_iter *to)
{
	struct iov_iter i = *to;
	char zero = 0;

	return copy_to_iter(&zero, 1, &i) == 1;
}

/*
 * As above, from the pages of another process. That one of them turns out to be
 * bad memory must not be the end of the machine, as it would be with an
 * ordinary copy: it counts as not there, and its owner, which is called back for
 * that, meets it in a copy from user memory, which the kernel reports to it. Sets
 * @bad if the copy came to its end for that.
 *
 * Where the copy stopped since a byte of @to was not there, that byte may be there
 * a moment later. So bad is only what cannot be copied once more.
 */
size_t zpipe_pages_to_iter_atomic(struct page **pages, size_t offset,
				  size_t bytes, struct iov_iter *to, bool *bad)
{
	size_t done = 0;

	/* A folio is one range of addresses. */
	BUILD_BUG_ON(IS_ENABLED(CONFIG_HIGHMEM));
	*bad = false;
	bytes = cut(bytes);
	pagefault_disable();
	while (done < bytes) {
		size_t left = DIV_ROUND_UP(offset + bytes - done, PAGE_SIZE);
		size_t run = run_of(pages, left);
		size_t want = min(bytes - done, run * PAGE_SIZE - offset);
		size_t n = _copy_mc_to_iter(page_address(*pages) + offset, want,
					    to);

		done += n;
		if (n < want) {
			if (!is_writable(to))
				break;
			n = _copy_mc_to_iter(page_address(*pages) + offset + n,
					     1, to);
			done += n;
			*bad = !n;
			break;
		}
		pages += run;
		offset = 0;
	}
	pagefault_enable();
	return done;
}

/*
 * Copies @bytes bytes from @offset in a folio of the pipe's own, as far as it goes
 * without a fault, and likewise without an end of the machine.
 */
size_t zpipe_folio_to_iter_atomic(struct folio *folio, size_t offset, size_t bytes,
				  struct iov_iter *to)
{
	size_t copied;

	pagefault_disable();
	copied = _copy_mc_to_iter(folio_address(folio) + offset, cut(bytes), to);
	pagefault_enable();
	return copied;
}

void zpipe_put_pages(struct page **pages, size_t count)
{
	while (count) {
		size_t run = run_of(pages, count);

		folio_put_refs(page_folio(*pages), run);
		pages += run;
		count -= run;
	}
}

/*
 * Where in user memory what is left of an iterator is: fills in at most @max
 * spans, none of them empty, and returns how many there are; 0 if that is not
 * user memory.
 */
size_t zpipe_user_spans(const struct iov_iter *from, struct zpipe_span *spans,
			size_t max)
{
	struct iov_iter i = *from;
	size_t n = 0;

	if (!user_backed_iter(&i))
		return 0;
	while (iov_iter_count(&i)) {
		size_t len = min(iter_iov_len(&i), iov_iter_count(&i));

		if (len) {
			if (n < max) {
				spans[n].start = (size_t)iter_iov_addr(&i);
				spans[n].bytes = len;
			}
			n++;
		}
		/* Past the empty ones, too. */
		iov_iter_advance(&i, len);
	}
	return n;
}

/* Whether nothing is mapped there. */
static bool is_unmapped(const char __user *at)
{
	struct mm_struct *mm = current->mm;
	bool unmapped;

	if (mmap_read_lock_killable(mm))
		return false;
	unmapped = !vma_lookup(mm, (unsigned long)at);
	mmap_read_unlock(mm);
	return unmapped;
}

/*
 * As fault_in_iov_iter_writeable(), but memory that a stack would grow to is
 * there, too: only a real access, as the load is, makes it grow. What is mapped
 * is not loaded from: in a device that may do something.
 */
size_t zpipe_fault_in_writeable(const struct iov_iter *to, size_t bytes)
{
	struct iov_iter i = *to;
	size_t left = user_backed_iter(to) ? min(bytes, iov_iter_count(to)) : 0;

	while (left) {
		size_t len = min(iter_iov_len(&i), left);

		if (len && is_unmapped(iter_iov_addr(&i)) &&
		    fault_in_readable(iter_iov_addr(&i), 1))
			break;
		/* Past the empty ones, too. */
		iov_iter_advance(&i, len);
		left -= len;
	}
	return fault_in_iov_iter_writeable(to, bytes);
}

#define BATCH	64

/* Of @bytes bytes how many can be read without a fault: by touching each page. */
static size_t touch(const char __user *from, size_t bytes)
{
	size_t missing;

	pagefault_disable();
	missing = fault_in_readable(from, bytes);
	pagefault_enable();
	return bytes - missing;
}

/* Of @bytes bytes how many page tables say can be read: maybe not all. */
static size_t mapped(const char __user *from, size_t bytes)
{
	struct page *pages[BATCH];
	size_t done = 0;

	while (done < bytes) {
		size_t offset = offset_in_page(from + done);
		size_t left = DIV_ROUND_UP(offset + bytes - done, PAGE_SIZE);
		int nr = get_user_pages_fast_only((unsigned long)from + done,
						  min(left, BATCH), 0, pages);

		if (nr <= 0)
			break;
		zpipe_put_pages(pages, nr);
		done = min(done + nr * PAGE_SIZE - offset, bytes);
	}
	return done;
}

static bool in_huge_page(const char __user *from)
{
	struct page *page;
	bool huge;

	if (get_user_pages_fast_only((unsigned long)from, 1, 0, &page) != 1)
		return false;
	huge = folio_test_pmd_mappable(page_folio(page));
	put_page(page);
	return huge;
}

/*
 * As touch(). Of a huge page the page table has one entry, which takes less time
 * to look up than 512 places take to touch, each with a translation of its own.
 */
static size_t present(const char __user *from, size_t bytes)
{
	size_t done = 0;

	while (done < bytes) {
		const char __user *at = from + done;
		size_t len = min(bytes - done,
				 PMD_SIZE - ((unsigned long)at & ~PMD_MASK));
		size_t n = 0;

		if (len >= BATCH * PAGE_SIZE && in_huge_page(at))
			n = mapped(at, len);
		n += touch(at + n, len - n);
		done += n;
		if (n < len)
			break;
	}
	return done;
}

/*
 * Of @bytes bytes how many, from the first on, are in mappings that others may
 * read, too: what is not, such as the registers of a device, is not to be
 * touched before it is its turn. The mmap_lock is only tried: as long as
 * another thread changes the address space, there is none.
 */
static size_t shared_mappings(const char __user *from, size_t bytes)
{
	struct mm_struct *mm = current->mm;
	unsigned long start = (unsigned long)from, end = start + bytes;
	unsigned long at = start;

	if (!mm || !mmap_read_trylock(mm))
		return 0;
	while (at < end) {
		struct vm_area_struct *vma = vma_lookup(mm, at);

		if (!vma || zpipe_vma_is_private(vma))
			break;
		at = min(end, vma->vm_end);
	}
	mmap_read_unlock(mm);
	return at - start;
}

/*
 * How many of @bytes bytes behind @skip others can be read without a fault, and
 * by others.
 */
size_t zpipe_present(const struct iov_iter *from, size_t skip, size_t bytes)
{
	struct iov_iter i = *from;
	size_t left = bytes;

	if (!user_backed_iter(&i))
		return bytes;
	iov_iter_advance(&i, skip);
	while (left) {
		size_t len = min(iter_iov_len(&i), left);
		size_t n = shared_mappings(iter_iov_addr(&i), len);

		n = present(iter_iov_addr(&i), n);

		left -= n;
		if (n < len)
			break;
		/* Past the empty ones, too. */
		iov_iter_advance(&i, len);
	}
	return bytes - left;
}

/*
 * Whether a mapping is left to its owner: only that one can say who may access
 * it; or to look up its pages may sleep, as for those of hugetlbfs; or it has
 * none that could be looked up, as that of a device.
 */
bool zpipe_vma_is_private(struct vm_area_struct *vma)
{
	return vma_pkey(vma) != 0 || is_vm_hugetlb_page(vma) ||
	       vma->vm_flags & (VM_IO | VM_PFNMAP);
}

bool zpipe_vma_is_anonymous(struct vm_area_struct *vma)
{
	return vma_is_anonymous(vma);
}

/*
 * As unpin_user_pages_dirty_lock(), for pages of anonymous memory: whose dirty
 * bit nothing hangs on that the lock of the page would have to keep out.
 */
void zpipe_unpin_anonymous_dirty(struct page **pages, size_t count)
{
	size_t i;

	for (i = 0; i < count; i += run_of(pages + i, count - i))
		if (!folio_test_dirty(page_folio(pages[i])))
			folio_mark_dirty(page_folio(pages[i]));
	unpin_user_pages(pages, count);
}

bool zpipe_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

/*
 * As wake_up_interruptible_sync_poll(), but takes the queue's lock only if
 * somebody is on it: most of the time nobody is. What the waiter tests has
 * been written before; wq_has_sleeper() has the barrier against its test.
 */
void zpipe_wake_sync(struct wait_queue_head *head, unsigned int mask)
{
	if (wq_has_sleeper(head))
		wake_up_interruptible_sync_poll(head, mask);
}

/*
 * Whether to go on spinning, @ns nanoseconds from @since at most: not when
 * there is something else to do for this processor or this task.
 */
bool zpipe_spin(u64 since, u64 ns)
{
	cpu_relax();
	return single_task_running() && !need_resched() &&
	       !signal_pending(current) && local_clock() - since < ns;
}

u64 zpipe_clock(void)
{
	return local_clock();
}

bool zpipe_has_waiters(struct wait_queue_head *head)
{
	/* A guess is good enough, so no barrier. */
	return waitqueue_active(head);
}

struct user_struct *zpipe_get_user(void)
{
	return get_uid(current_user());
}

/* As account_pipe_buffers(). */
long zpipe_account(struct user_struct *user, long pages)
{
	return atomic_long_add_return(pages, &user->pipe_bufs);
}

/* As get_pipe_inode(): a FIFO of the current task's, owner and times set. */
void zpipe_init_fifo_inode(struct inode *inode,
			   const struct file_operations *fops)
{
	inode->i_ino = get_next_ino();
	inode->i_fop = fops;
	inode->i_mode = S_IFIFO | 0600;
	inode->i_uid = current_fsuid();
	inode->i_gid = current_fsgid();
	simple_inode_init_ts(inode);
}

/*
 * As fifo_open(): no position, hence no pread() and pwrite(). fcntl() takes
 * O_DIRECT for FIFOs, and for a device only with this mode; open() takes it
 * for neither.
 */
void zpipe_open_stream(struct inode *inode, struct file *file)
{
	stream_open(inode, file);
	if (!(file->f_flags & O_DIRECT))
		file->f_mode |= FMODE_CAN_ODIRECT;
}

/* As create_pipe_files(): what pipe(2) sets on a file that nobody opened. */
void zpipe_open_pair(struct inode *inode, struct file *file)
{
	stream_open(inode, file);
	file->f_mode |= FMODE_NOWAIT;
	file_set_fsnotify_mode(file, FMODE_NONOTIFY_PERM);
}

void zpipe_file_accessed(struct file *file)
{
	file_accessed(file);
}

/* As fifo_pipe_write(): not where the file system is being frozen. */
int zpipe_file_modified(struct file *file)
{
	struct super_block *sb = file_inode(file)->i_sb;
	int ret;

	if (!sb_start_write_trylock(sb))
		return 0;
	ret = file_update_time(file);
	sb_end_write(sb);
	return ret;
}

/* As pipefs_dname(): the name that /proc/PID/fd shows, at the buffer's end. */
char *zpipe_dname(struct dentry *dentry, char *buffer, int buflen)
{
	char name[32];
	int size = scnprintf(name, sizeof(name), "zpipe:[%llu]",
			     (u64)d_inode(dentry)->i_ino) + 1;

	if (size > buflen)
		return ERR_PTR(-ENAMETOOLONG);
	return memcpy(buffer + buflen - size, name, size);
}

/*
 * A directory of debugfs with one file for root to read. Where that cannot be,
 * there is none: nobody needs to know, says debugfs.
 */
struct dentry *zpipe_debugfs(const char *dir, const char *file,
			     const struct file_operations *fops)
{
	struct dentry *dentry = debugfs_create_dir(dir, NULL);

	debugfs_create_file(file, 0400, dentry, NULL, fops);
	return dentry;
}

void zpipe_debugfs_remove(struct dentry *dir)
{
	debugfs_remove(dir);
}
