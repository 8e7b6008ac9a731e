/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The input of bindgen for rust/sys.rs: the ABI, the module's C helpers, and declarations
 * that the kernel crate's bindings lack.
 *
 * bindgen cannot evaluate macros with casts, so a C constant has the value of each.
 */
#include <linux/cdev.h>
#include <linux/eventpoll.h>
#include <linux/fs.h>
#include <linux/pseudo_fs.h>
#include <linux/splice.h>
#include <linux/tracepoint-defs.h>
#include <linux/zpipe.h>
#include <asm/ioctls.h>

#include "helpers.h"

DECLARE_TRACEPOINT(zpipe_read);
DECLARE_TRACEPOINT(zpipe_write);
DECLARE_TRACEPOINT(zpipe_wait);
DECLARE_TRACEPOINT(zpipe_wake);
DECLARE_TRACEPOINT(zpipe_post);
DECLARE_TRACEPOINT(zpipe_pull);
DECLARE_TRACEPOINT(zpipe_push);

const u32 ZPIPE_FMODE_READ = (__force u32)FMODE_READ;
const u32 ZPIPE_FMODE_WRITE = (__force u32)FMODE_WRITE;

const s32 ZPIPE_IOCB_NOWAIT = IOCB_NOWAIT;
const s32 ZPIPE_IOCB_DIRECT = IOCB_DIRECT;
const s32 ZPIPE_IOCB_NOSIGNAL = IOCB_NOSIGNAL;

const u32 ZPIPE_POLL_INPUT = (__force u32)(EPOLLIN | EPOLLRDNORM);
const u32 ZPIPE_POLL_OUTPUT = (__force u32)(EPOLLOUT | EPOLLWRNORM);
const u32 ZPIPE_POLL_HUP = (__force u32)EPOLLHUP;
const u32 ZPIPE_POLL_ERR = (__force u32)EPOLLERR;
const u32 ZPIPE_POLL_EDGE = (__force u32)EPOLLET;

const vm_fault_t ZPIPE_FAULT_SIGBUS = VM_FAULT_SIGBUS;
const vm_fault_t ZPIPE_FAULT_FALLBACK = VM_FAULT_FALLBACK;
const vm_fault_t ZPIPE_FAULT_NOPAGE = VM_FAULT_NOPAGE;

const u32 ZPIPE_SPLICE_F_NONBLOCK = SPLICE_F_NONBLOCK;
const u32 ZPIPE_SPLICE_F_MORE = SPLICE_F_MORE;

const u32 ZPIPE_FIONREAD = FIONREAD;

const u32 ZPIPE_CMD_PIPE2 = ZPIPE_IOC_PIPE2;
const u32 ZPIPE_CMD_GET_CAPACITY = ZPIPE_IOC_GET_CAPACITY;
const u32 ZPIPE_CMD_SET_CAPACITY = ZPIPE_IOC_SET_CAPACITY;
const u32 ZPIPE_CMD_GET_FLAGS = ZPIPE_IOC_GET_FLAGS;
const u32 ZPIPE_CMD_SET_FLAGS = ZPIPE_IOC_SET_FLAGS;
const u32 ZPIPE_CMD_GIFT = ZPIPE_IOC_GIFT;
const u32 ZPIPE_CMD_MOVE = ZPIPE_IOC_MOVE;
const u32 ZPIPE_CMD_SPLICE_TO = ZPIPE_IOC_SPLICE_TO;
const u32 ZPIPE_CMD_SPLICE_FROM = ZPIPE_IOC_SPLICE_FROM;
const u32 ZPIPE_CMD_TEE = ZPIPE_IOC_TEE;
const u32 ZPIPE_CMD_WINDOW = ZPIPE_IOC_WINDOW;
const u32 ZPIPE_CMD_RESERVE = ZPIPE_IOC_RESERVE;
const u32 ZPIPE_CMD_COMMIT = ZPIPE_IOC_COMMIT;
const u32 ZPIPE_CMD_PEEK = ZPIPE_IOC_PEEK;
const u32 ZPIPE_CMD_CONSUME = ZPIPE_IOC_CONSUME;
