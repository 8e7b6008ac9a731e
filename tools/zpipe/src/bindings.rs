// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Made by scripts/bindings from include/uapi/linux/zpipe.h.

pub const ZPIPE_IOC_TYPE: u32 = 233;
pub const ZPIPE_SUPER_MAGIC: u32 = 2054187376;
pub const ZPIPE_BUFFER_ONLY: u32 = 2147483648;
pub const ZPIPE_REASON_PART: u32 = 0;
pub const ZPIPE_REASON_SMALL: u32 = 1;
pub const ZPIPE_REASON_SHARED: u32 = 2;
pub const ZPIPE_REASON_PINNED: u32 = 3;
pub const ZPIPE_REASON_MAPPING: u32 = 4;
pub const ZPIPE_REASON_TRACKED: u32 = 5;
pub const ZPIPE_REASON_SWAP: u32 = 6;
pub const ZPIPE_REASON_ZONE: u32 = 7;
pub const ZPIPE_REASON_POISON: u32 = 8;
pub const ZPIPE_REASON_KERNEL: u32 = 9;
pub const ZPIPE_REASON_MEMORY: u32 = 10;
pub const ZPIPE_REASON_LIMIT: u32 = 11;
pub const ZPIPE_REASON_PACKET: u32 = 12;
pub const ZPIPE_REASON_COST: u32 = 13;
pub const ZPIPE_REASON_BUFFER_ONLY: u32 = 14;
pub const ZPIPE_REASON_WINDOW: u32 = 15;
pub const ZPIPE_REASONS: u32 = 16;
pub const ZPIPE_NONBLOCK: u32 = 1;
pub const ZPIPE_CLEAR: u32 = 2;
pub const ZPIPE_ANY: u32 = 4;
pub const ZPIPE_RETURN: u32 = 8;
pub const ZPIPE_ALWAYS: u32 = 16;
pub const ZPIPE_SMALL: u32 = 32;
pub const ZPIPE_SPLICE_MORE: u32 = 256;
pub const ZPIPE_SPLICE_AT: u32 = 512;
pub const ZPIPE_SIDE_PIPE: u32 = 1;
pub const ZPIPE_SIDE_FILE: u32 = 2;
pub const ZPIPE_WINDOW_WRITE: u32 = 1;
pub const ZPIPE_WINDOW_READ: u32 = 2;
pub const ZPIPE_WINDOW_LEND: u32 = 4;
pub const ZPIPE_WINDOW_MAX: u32 = 1073741824;
pub const ZPIPE_FRAME: u32 = 2097152;
pub const ZPIPE_LEND: u32 = 64;
pub const ZPIPE_VIEW_PACKET: u32 = 1;
pub const ZPIPE_MORE: u32 = 128;
pub type __s32 = ::core::ffi::c_int;
pub type __u32 = ::core::ffi::c_uint;
pub type __u64 = ::core::ffi::c_ulonglong;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct zpipe_pipe2 {
    pub size: __u32,
    pub flags: __u32,
    pub fds: [__s32; 2usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct zpipe_capacity {
    pub size: __u32,
    pub flags: __u32,
    pub bytes: __u64,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct zpipe_flags {
    pub size: __u32,
    pub flags: __u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct zpipe_iovec {
    pub base: __u64,
    pub bytes: __u64,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct zpipe_transfer {
    pub size: __u32,
    pub flags: __u32,
    pub iov: __u64,
    pub iovcnt: __u32,
    pub reserved: __u32,
    pub done: __u64,
    pub moved: __u64,
    pub copied: __u64,
    pub why: [__u32; 16usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct zpipe_splice {
    pub size: __u32,
    pub flags: __u32,
    pub fd: __s32,
    pub side: __u32,
    pub offset: __u64,
    pub bytes: __u64,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct zpipe_window {
    pub size: __u32,
    pub flags: __u32,
    pub bytes: __u64,
    pub fd: __s32,
    pub reserved: __u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct zpipe_reserve {
    pub size: __u32,
    pub flags: __u32,
    pub offset: __u64,
    pub bytes: __u64,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct zpipe_commit {
    pub size: __u32,
    pub flags: __u32,
    pub offset: __u64,
    pub bytes: __u64,
    pub done: __u64,
    pub moved: __u64,
    pub copied: __u64,
    pub why: [__u32; 16usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct zpipe_view {
    pub offset: __u64,
    pub bytes: __u64,
    pub flags: __u32,
    pub reserved: __u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct zpipe_peek {
    pub size: __u32,
    pub flags: __u32,
    pub consume: __u64,
    pub views: __u64,
    pub nr_views: __u32,
    pub reserved: __u32,
    pub bytes: __u64,
    pub copied: __u64,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct zpipe_consume {
    pub size: __u32,
    pub flags: __u32,
    pub bytes: __u64,
}
pub const PIPE2: ::core::ffi::c_uint = 59648;
pub const GET_CAPACITY: ::core::ffi::c_uint = 59664;
pub const SET_CAPACITY: ::core::ffi::c_uint = 59665;
pub const GET_FLAGS: ::core::ffi::c_uint = 59666;
pub const SET_FLAGS: ::core::ffi::c_uint = 59667;
pub const GIFT: ::core::ffi::c_uint = 59680;
pub const MOVE: ::core::ffi::c_uint = 59681;
pub const SPLICE_TO: ::core::ffi::c_uint = 59688;
pub const SPLICE_FROM: ::core::ffi::c_uint = 59689;
pub const TEE: ::core::ffi::c_uint = 59690;
pub const WINDOW: ::core::ffi::c_uint = 59696;
pub const RESERVE: ::core::ffi::c_uint = 59697;
pub const COMMIT: ::core::ffi::c_uint = 59698;
pub const PEEK: ::core::ffi::c_uint = 59699;
pub const CONSUME: ::core::ffi::c_uint = 59700;
pub const SUPER_MAGIC: ::core::ffi::c_long = 2054187376;
