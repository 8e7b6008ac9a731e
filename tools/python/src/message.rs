// SPDX-License-Identifier: MIT OR Apache-2.0

//! The format of messages. All numbers are big-endian.
//!
//! A message without buffers is as that of `multiprocessing.connection`:
//!
//! - its length as `i32`; or -1, and its length as `u64`
//! - the data
//!
//! A message with buffers:
//!
//! - -2 as `i32`, the number of buffers as `u32`, the length of the data as `u64`
//! - for each buffer its length and the number of bytes sent for it, each as `u64`. If more bytes
//!   are sent, they fill the last huge page
//! - the data
//! - the buffers
//!
//! A buffer begins with a read of its own, at an aligned address. Otherwise no page could move.
//!
//! The reader does not rely on lengths: memory is allocated for real only when bytes arrive.

use crate::{block, block::Block, end::Turn, io::How};
use pyo3::{
    buffer::PyBuffer,
    create_exception,
    exceptions::{PyBufferError, PyEOFError, PyOSError, PyOverflowError},
    ffi,
    prelude::*,
    types::{PyByteArray, PyBytes},
};
use std::ptr;
use zpipe_uapi::gift::FRAME;

create_exception!(_native, BadMessage, PyOSError);

/// Most buffers of a message.
pub(crate) const MAX_BUFFERS: usize = 1 << 16;

/// Data up to this length is sent in one call with the numbers in front of it.
const JOIN_MAX: usize = 16 << 10;

/// A buffer from this length on gets memory of huge pages, and can be given away.
const PAGES_MIN: usize = FRAME / 2;

const LONG: i32 = -1;
const BUFFERS: i32 = -2;

/// Memory to send.
struct Part {
    base: usize,
    len: usize,
    sent: usize,
    how: How,
}

/// Decides how each buffer is sent.
///
/// A buffer is given away if it begins a huge page of a block, if it may be written to, and if no
/// other buffer of the message has a part of its memory: that would be sent after it had left.
fn plan(py: Python<'_>, buffers: &[PyBuffer<u8>], give: bool) -> Vec<Part> {
    let mut parts = buffers
        .iter()
        .map(|buffer| Part {
            base: buffer.buf_ptr().addr(),
            len: buffer.len_bytes(),
            sent: buffer.len_bytes(),
            how: How::Plain,
        })
        .collect::<Vec<_>>();
    let mut ranges = parts
        .iter()
        .map(|part| (part.base, part.base + part.len))
        .collect::<Vec<_>>();
    ranges.sort_unstable();
    let apart = ranges.windows(2).all(|two| two[0].1 <= two[1].0);
    if !give || !apart {
        return parts;
    }
    for (part, buffer) in parts.iter_mut().zip(buffers) {
        if buffer.readonly() || part.base % FRAME != 0 || part.len < PAGES_MIN {
            continue;
        }
        let Some((shown, hidden)) = block::behind(py, part.base, part.len) else {
            continue;
        };
        part.how = How::Pages;
        // The last page can leave, too, if nothing else is in it.
        if shown == 0 && part.len % FRAME >= PAGES_MIN {
            let end = buffer.buf_ptr().cast::<u8>().wrapping_add(part.len);
            // SAFETY: The block has these bytes behind those that its buffers show. Only this
            // function accesses them, with the lock of the interpreter. They may have bytes of
            // earlier messages, to others.
            unsafe { ptr::write_bytes(end, 0, hidden) };
            part.sent += hidden;
        }
    }
    parts
}

/// Sends a message.
pub(crate) fn send(
    py: Python<'_>,
    turn: &mut Turn<'_>,
    data: &PyBuffer<u8>,
    buffers: &[PyBuffer<u8>],
    give: bool,
) -> PyResult<()> {
    if !data.is_c_contiguous() || !buffers.iter().all(PyBuffer::is_c_contiguous) {
        return Err(PyBufferError::new_err("the buffer is not contiguous"));
    }
    if buffers.len() > MAX_BUFFERS {
        return Err(PyOverflowError::new_err("too many buffers"));
    }
    let (base, len) = (data.buf_ptr().addr(), data.len_bytes());
    let parts = plan(py, buffers, give);
    let mut head = Vec::new();
    if !parts.is_empty() {
        head.extend(BUFFERS.to_be_bytes());
        head.extend((parts.len() as u32).to_be_bytes());
        head.extend((len as u64).to_be_bytes());
        for part in &parts {
            head.extend((part.len as u64).to_be_bytes());
            head.extend((part.sent as u64).to_be_bytes());
        }
    } else if let Ok(len) = i32::try_from(len) {
        head.extend(len.to_be_bytes());
    } else {
        head.extend(LONG.to_be_bytes());
        head.extend((len as u64).to_be_bytes());
    }

    let join = len <= JOIN_MAX;
    if join {
        let start = head.len();
        head.resize(start + len, 0);
        data.copy_to_slice(py, &mut head[start..])?;
    }
    // SAFETY: `head` is not changed meanwhile.
    unsafe { turn.write(py, head.as_ptr().addr(), head.len(), How::Plain)? };
    if !join {
        // SAFETY: `data` keeps the memory.
        unsafe { turn.write(py, base, len, How::Plain)? };
    }
    for part in &parts {
        // SAFETY: `buffers` keeps the memory, and the block what is behind it. What is given away
        // is memory of a block, which nobody but programs in Python has.
        unsafe { turn.write(py, part.base, part.sent, part.how)? };
    }
    turn.complete();
    Ok(())
}

/// The numbers in front of a message.
enum Head {
    /// The length of the data.
    Plain(usize),
    /// The number of buffers, and the length of the data.
    Buffers(usize, usize),
}

/// Reads `N` bytes.
fn array<const N: usize>(py: Python<'_>, turn: &mut Turn<'_>) -> PyResult<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: The memory is ours.
    match unsafe { turn.read(py, bytes.as_mut_ptr().addr(), N, How::Plain)? } {
        true => Ok(bytes),
        false => Err(PyEOFError::new_err(())),
    }
}

/// Reads a length.
fn length(bytes: [u8; 8]) -> PyResult<usize> {
    match isize::try_from(u64::from_be_bytes(bytes)) {
        Ok(len) => Ok(len as usize),
        Err(_) => Err(BadMessage::new_err("bad message length")),
    }
}

impl Head {
    fn read(py: Python<'_>, turn: &mut Turn<'_>) -> PyResult<Self> {
        match i32::from_be_bytes(array(py, turn)?) {
            LONG => Ok(Self::Plain(length(array(py, turn)?)?)),
            BUFFERS => {
                let count = u32::from_be_bytes(array(py, turn)?) as usize;
                let len = length(array(py, turn)?)?;
                if !(1..=MAX_BUFFERS).contains(&count) {
                    return Err(BadMessage::new_err("bad number of buffers"));
                }
                Ok(Self::Buffers(count, len))
            }
            len => match usize::try_from(len) {
                Ok(len) => Ok(Self::Plain(len)),
                Err(_) => Err(BadMessage::new_err("bad message length")),
            },
        }
    }
}

/// Reads data that becomes an object.
fn data<'py>(py: Python<'py>, turn: &mut Turn<'_>, len: usize) -> PyResult<Bound<'py, PyBytes>> {
    // SAFETY: It makes an object of `len` bytes, or returns null with an exception. The bytes are
    // filled before anyone else gets the object.
    unsafe {
        let object = ffi::PyBytes_FromStringAndSize(ptr::null(), len as isize);
        let object = Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked::<PyBytes>();
        let base = ffi::PyBytes_AsString(object.as_ptr());
        turn.read(py, base.addr(), len, How::Plain)?;
        Ok(object)
    }
}

/// Reads a buffer of `len` bytes, for which `sent` bytes are in the pipe.
fn buffer<'py>(
    py: Python<'py>,
    turn: &mut Turn<'_>,
    len: usize,
    sent: usize,
) -> PyResult<Bound<'py, PyAny>> {
    if sent != len && len.checked_next_multiple_of(FRAME) != Some(sent) {
        return Err(BadMessage::new_err("bad length of a buffer"));
    }
    if sent >= PAGES_MIN {
        let block = Bound::new(py, Block::of(py, len)?)?;
        // SAFETY: The block is new, and nobody else has it. Its last page has space for the bytes
        // behind it.
        unsafe { turn.read(py, block.get().base().addr(), sent, How::Pages)? };
        return Ok(block.into_any());
    }
    // SAFETY: It makes an object of `len` bytes, or returns null with an exception. The bytes are
    // filled before anyone else gets the object. `sent` is not more, because it is less than a huge
    // page.
    unsafe {
        let object = ffi::PyByteArray_FromStringAndSize(ptr::null(), len as isize);
        let object = Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked::<PyByteArray>();
        turn.read(py, object.data().addr(), len, How::Plain)?;
        Ok(object.into_any())
    }
}

/// Receives a message: the data, and the buffers, for which `buffers` must be set.
pub(crate) fn recv<'py>(
    py: Python<'py>,
    turn: &mut Turn<'_>,
    max_length: Option<usize>,
    buffers: bool,
) -> PyResult<(Bound<'py, PyBytes>, Vec<Bound<'py, PyAny>>)> {
    let mut table = Vec::new();
    let len = match Head::read(py, turn)? {
        Head::Plain(len) => len,
        Head::Buffers(..) if !buffers => {
            return Err(BadMessage::new_err("the message has buffers: use recv()"));
        }
        Head::Buffers(count, len) => {
            table.resize(16 * count, 0);
            // SAFETY: The memory is ours.
            unsafe { turn.read(py, table.as_mut_ptr().addr(), table.len(), How::Plain)? };
            len
        }
    };
    if max_length.is_some_and(|max| len > max) {
        return Err(BadMessage::new_err("bad message length"));
    }
    let data = data(py, turn, len)?;
    let mut got = Vec::new();
    for (len, sent) in table.chunks_exact(16).map(|entry| entry.split_at(8)) {
        let [len, sent] = [len, sent].map(|bytes| length(bytes.try_into().unwrap_or([0xff; 8])));
        got.push(buffer(py, turn, len?, sent?)?);
    }
    turn.complete();
    Ok((data, got))
}

/// Receives a message into memory, and returns its length. If it is too long for that, returns it
/// as an object.
pub(crate) fn recv_into<'py>(
    py: Python<'py>,
    turn: &mut Turn<'_>,
    into: &PyBuffer<u8>,
) -> PyResult<Bound<'py, PyAny>> {
    if into.readonly() || !into.is_c_contiguous() {
        return Err(PyBufferError::new_err(
            "the buffer is read-only or not contiguous",
        ));
    }
    let len = match Head::read(py, turn)? {
        Head::Plain(len) => len,
        Head::Buffers(..) => {
            return Err(BadMessage::new_err("the message has buffers: use recv()"));
        }
    };
    let got = if len <= into.len_bytes() {
        // SAFETY: `into` keeps the memory, and the caller wants it written to.
        unsafe { turn.read(py, into.buf_ptr().addr(), len, How::Plain)? };
        len.into_pyobject(py)?.into_any()
    } else {
        data(py, turn, len)?.into_any()
    };
    turn.complete();
    Ok(got)
}
