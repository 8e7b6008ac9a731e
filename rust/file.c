// SPDX-License-Identifier: GPL-2.0-only
/*
 * Inodes and files of pipes, and the directory in debugfs.
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/sched/xacct.h>
#include <linux/string.h>

#include "helpers.h"

/*
 * Asks the security modules and the fsnotify listeners of @file whether @bytes bytes may be
 * written to it at *@pos, or read if not @writes. @pos is NULL for a file without a position.
 * Returns 0 or a negative error. Sleeps.
 */
int zpipe_file_verify(struct file *file, bool writes, const loff_t *pos, size_t bytes)
{
	/* Like vfs_readv() and vfs_writev(), skips the check of an empty transfer. */
	return bytes ? rw_verify_area(writes ? WRITE : READ, file, pos, bytes) : 0;
}

/*
 * Notifies fsnotify listeners of a read of @bytes bytes, and counts the read for the
 * current task, as vfs_read() does. zpipe_file_wrote() follows vfs_write() likewise.
 */
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

/*
 * Makes @inode a FIFO with the number, mode, owner, times and operations that a pair has.
 * The current task owns it. Follows get_pipe_inode().
 */
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
 * Sets the mode of a file of a device node, or of a pair, that open() is opening. Follows
 * fifo_open().
 *
 * The file has no position, so pread() and pwrite() fail. fcntl() accepts O_DIRECT for
 * each FIFO, but for a device only with FMODE_CAN_ODIRECT. open() accepts O_DIRECT for
 * neither, so a file that is opened with O_DIRECT does not get that mode.
 */
void zpipe_open_stream(struct inode *inode, struct file *file)
{
	stream_open(inode, file);
	if (!(file->f_flags & O_DIRECT))
		file->f_mode |= FMODE_CAN_ODIRECT;
}

/*
 * Sets the mode of an end of a pair, which no open() call opened. Follows
 * create_pipe_files().
 */
void zpipe_open_pair(struct inode *inode, struct file *file)
{
	stream_open(inode, file);
	file->f_mode |= FMODE_NOWAIT;
	file_set_fsnotify_mode(file, FMODE_NONOTIFY_PERM);
}

/* Updates the access time of the file's inode after a read. */
void zpipe_file_accessed(struct file *file)
{
	file_accessed(file);
}

/*
 * Updates the times of the file's inode after a write, unless the file system is frozen
 * or being frozen. Returns 0 or a negative error. Follows fifo_pipe_write().
 */
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

/*
 * Writes the name that /proc/PID/fd shows for an end of a pair to the end of @buffer.
 * Returns where the name begins, or an error pointer. Follows pipefs_dname().
 */
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
 * Creates the directory @dir in debugfs, with one file that root may read.
 *
 * Returns the directory, or an error pointer, which zpipe_debugfs_remove() accepts.
 * Errors are ignored, as debugfs asks its callers to do.
 */
struct dentry *zpipe_debugfs(const char *dir, const char *file,
			     const struct file_operations *fops)
{
	struct dentry *dentry = debugfs_create_dir(dir, NULL);

	debugfs_create_file(file, 0400, dentry, NULL, fops);
	return dentry;
}

/*
 * Removes the directory and its file. When it returns, no task is in an operation of the
 * file. Sleeps.
 */
void zpipe_debugfs_remove(struct dentry *dir)
{
	debugfs_remove(dir);
}
