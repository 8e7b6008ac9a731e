/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The C functions that rust/sys.rs makes available to Rust. They wrap inline functions and
 * macros of the kernel, and sequences of calls that are simpler and faster in C.
 *
 * The prototypes are grouped by the file that defines and documents the function.
 */
#ifndef ZPIPE_HELPERS_H
#define ZPIPE_HELPERS_H

#include <linux/bvec.h>
#include <linux/mm_types.h>
#include <linux/types.h>
#include <linux/zpipe.h>

struct dentry;
struct file;
struct file_operations;
struct folio;
struct inode;
struct iov_iter;
struct kiocb;
struct iovec;
struct page;
struct pipe_inode_info;
struct user_struct;
struct vm_area_struct;
struct vm_fault;
struct vm_operations_struct;
struct wait_queue_head;

/* A range of addresses in the memory of a process. */
struct zpipe_span {
	size_t start;
	size_t bytes;
};

/* account.c */
unsigned long zpipe_ram_pages(void);
struct user_struct *zpipe_get_user(void);
long zpipe_account(struct user_struct *user, long pages);

/* copy.c */
void zpipe_cut_copies(u8 how);
size_t zpipe_page_from_iter_atomic(struct page *page, size_t offset,
				   size_t bytes, struct iov_iter *from);
size_t zpipe_page_to_iter_atomic(struct page *page, size_t offset,
				 size_t bytes, struct iov_iter *to);
size_t zpipe_pages_from_iter_atomic(struct page **pages, size_t offset,
				    size_t bytes, struct iov_iter *from);
size_t zpipe_pages_to_iter_atomic(struct page **pages, size_t offset,
				  size_t bytes, struct iov_iter *to, bool *bad);
size_t zpipe_folio_to_iter_atomic(struct folio *folio, size_t offset, size_t bytes,
				  struct iov_iter *to);
void zpipe_put_pages(struct page **pages, size_t count);
void zpipe_unpin_anonymous_dirty(struct page **pages, size_t count);

/* file.c */
int zpipe_file_verify(struct file *file, bool writes, const loff_t *pos, size_t bytes);
void zpipe_file_read(struct file *file, size_t bytes);
void zpipe_file_wrote(struct file *file, size_t bytes);
void zpipe_init_fifo_inode(struct inode *inode,
			   const struct file_operations *fops);
void zpipe_open_stream(struct inode *inode, struct file *file);
void zpipe_open_pair(struct inode *inode, struct file *file);
void zpipe_file_accessed(struct file *file);
int zpipe_file_modified(struct file *file);
char *zpipe_dname(struct dentry *dentry, char *buffer, int buflen);
struct dentry *zpipe_debugfs(const char *dir, const char *file,
			     const struct file_operations *fops);
void zpipe_debugfs_remove(struct dentry *dir);

/* gift.c */

/*
 * Number of entries for one migration, sources and destinations together. It is twice as
 * many as migrate_vma_setup() fills for a huge page, see zpipe_begin_move().
 */
#define ZPIPE_GIFT_PFNS		2048

void zpipe_refuse_moves(u8 when);
void zpipe_huge_put(struct folio *folio);
bool zpipe_huge_fits(struct folio *folio);
int zpipe_gift_probe(unsigned long at);
int zpipe_move_probe(unsigned long at);
struct folio *zpipe_gift_replacement(unsigned long at);
int zpipe_gift_page(unsigned long at, struct folio *with, unsigned long *pfns,
		    struct folio **out);

/* gift_small.c */
int zpipe_small_probe(unsigned long at, unsigned int n, bool moves_in, struct page **pages,
		      unsigned int *run);
unsigned int zpipe_small_replacements(unsigned long at, unsigned int n,
				      struct page **pages);
unsigned int zpipe_small_exchange(unsigned long at, unsigned int n, struct page **with,
				  unsigned long *pfns, int *why);

/* splice.c */
void zpipe_splice_exit(void);
void zpipe_page_get(struct page *page);
bool zpipe_page_is_alone(struct page *page);
struct bio_vec zpipe_page_part(struct page *page, size_t offset, size_t bytes);
bool zpipe_real_is_internal(const struct pipe_inode_info *pipe);
bool zpipe_real_has_progress(const struct pipe_inode_info *pipe);
struct pipe_inode_info *zpipe_internal_new(size_t slots);
size_t zpipe_internal_clear(struct pipe_inode_info *pipe);
void zpipe_internal_free(struct pipe_inode_info *pipe);
void zpipe_real_lock(struct pipe_inode_info *pipe);
void zpipe_real_unlock(struct pipe_inode_info *pipe);
bool zpipe_real_is_locked(struct pipe_inode_info *pipe);
size_t zpipe_real_free(const struct pipe_inode_info *pipe);
void zpipe_real_push(struct pipe_inode_info *pipe, struct page *page, size_t offset,
		     size_t bytes, bool packet);
int zpipe_real_wait_for_space(struct pipe_inode_info *pipe, bool nonblock);
int zpipe_real_wait_for_data(struct pipe_inode_info *pipe, bool nonblock);
ssize_t zpipe_real_peek(struct pipe_inode_info *pipe, size_t max, struct bio_vec *parts,
			size_t nr_parts, size_t *bytes, bool *packet);
bool zpipe_real_consume(struct pipe_inode_info *pipe, size_t bytes);
void zpipe_real_wake_writers(struct pipe_inode_info *pipe);
bool zpipe_file_is_fifo(const struct file *file);
bool zpipe_is_splice_copy(const struct kiocb *iocb, const struct iov_iter *to);
int zpipe_file_check(const struct file *file, bool writes, bool at);
void zpipe_file_start_write(struct file *file);
void zpipe_file_end_write(struct file *file);
ssize_t zpipe_file_splice_write(struct file *file, struct pipe_inode_info *pipe,
				loff_t *pos, size_t bytes, unsigned int flags);
ssize_t zpipe_file_splice_read(struct file *file, struct pipe_inode_info *pipe, loff_t *pos,
			       size_t bytes, unsigned int flags);
loff_t zpipe_file_pos(const struct file *file);
void zpipe_file_set_pos(struct file *file, loff_t pos);

/* trace.c */

/* Values of @who: the tasks that wait or are woken. */
#define ZPIPE_READER		0
#define ZPIPE_WRITER		1
#define ZPIPE_OWNER		2	/* of a posted write */

/* Values of @outcome: why a pull or push ended. See Outcome and Miss in core/outcome.rs. */
#define ZPIPE_COPY_ALL		0
#define ZPIPE_COPY_STOPPED	1
#define ZPIPE_COPY_BUSY		2
#define ZPIPE_COPY_MAPPING	3
#define ZPIPE_COPY_PAGE		4

void zpipe_trace_read(u32 dev, u64 ino, size_t asked, ssize_t result);
void zpipe_trace_write(u32 dev, u64 ino, size_t asked, ssize_t result);
void zpipe_trace_wait(u32 dev, u64 ino, u32 who);
void zpipe_trace_wake(u32 dev, u64 ino, u32 who);
void zpipe_trace_post(u32 dev, u64 ino, size_t bytes);
void zpipe_trace_pull(u32 dev, u64 ino, size_t bytes, u32 outcome);
void zpipe_trace_push(u32 dev, u64 ino, size_t bytes, u32 outcome);

/* user_memory.c */
bool zpipe_access_ok(unsigned long at, size_t bytes);
void zpipe_import_source(struct iov_iter *iter, const struct iovec *iov,
			 size_t count, size_t bytes);
void zpipe_import_dest(struct iov_iter *iter, const struct iovec *iov, size_t count,
		       size_t bytes);
bool zpipe_mm_is_used(struct mm_struct *mm);
size_t zpipe_user_spans(const struct iov_iter *from, struct zpipe_span *spans,
			size_t max);
size_t zpipe_fault_in_writeable(const struct iov_iter *to, size_t bytes);
size_t zpipe_resident(const struct iov_iter *from, size_t skip, size_t bytes);
bool zpipe_vma_is_owner_only(struct vm_area_struct *vma);
bool zpipe_vma_is_anonymous(struct vm_area_struct *vma);

/* wait.c */
bool zpipe_fatal_signal_pending(void);
void zpipe_wake_sync(struct wait_queue_head *head, unsigned int mask);
bool zpipe_may_spin(u64 since, u64 ns);
u64 zpipe_clock(void);
bool zpipe_has_waiters(struct wait_queue_head *head);

/* window.c */
struct file *zpipe_window_file(const struct file_operations *fops, void *private,
			       bool writes, loff_t bytes);
bool zpipe_has_frames(void);
unsigned long zpipe_window_area(struct file *file, unsigned long at, unsigned long bytes,
				unsigned long pgoff, unsigned long flags);
struct folio *zpipe_frame_alloc(bool clear);
bool zpipe_fault_is_huge(struct vm_fault *vmf, unsigned int order);
vm_fault_t zpipe_frame_place(struct vm_fault *vmf, struct folio *folio, bool write);
int zpipe_window_map(struct vm_area_struct *vma, const struct vm_operations_struct *ops);
void zpipe_window_unmap(struct file *file, loff_t offset, loff_t bytes);
void zpipe_frame_get(struct folio *folio);
size_t zpipe_fault_pgoff(struct vm_fault *vmf);
bool zpipe_fault_writes(struct vm_fault *vmf);
bool zpipe_fault_is_mkwrite(struct vm_fault *vmf);
struct file *zpipe_fault_file(struct vm_fault *vmf);
bool zpipe_frame_alone(struct folio *folio);
bool zpipe_frame_mapped_only(struct folio *folio);
void zpipe_frame_clear(struct folio *folio, size_t from, size_t to);
bool zpipe_frame_copy_part(struct folio *to, struct folio *from, size_t offset,
			   size_t bytes);
struct bio_vec zpipe_folio_part(struct folio *folio, size_t offset, size_t bytes);
void zpipe_import_parts(struct iov_iter *iter, const struct bio_vec *parts, size_t n,
			size_t bytes, bool dest);

#endif /* ZPIPE_HELPERS_H */
