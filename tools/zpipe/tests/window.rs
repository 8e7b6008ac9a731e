// SPDX-License-Identifier: MIT OR Apache-2.0

//! Windows. src/window/tests.rs tests their commands, and here they run.

mod common;

use bytes::Bytes;
use common::{Kind, bytes, errno, in_time, stream};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use std::{io::ErrorKind, io::Write, thread};
use zpipe::{
    Builder, PipeReader, PipeWriter,
    window::{BytesWindow, FRAME, ReadWindow, View, WriteWindow},
};

/// Makes the windows, unless this kernel has none.
fn windows(frames: usize) -> Option<(ReadWindow, WriteWindow, PipeWriter, PipeReader)> {
    let (reader, writer) = Kind::Zpipe.pipe();
    let write = WriteWindow::new(&writer, frames * FRAME);
    if !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
        assert_eq!(errno(write), Some(Errno::OPNOTSUPP));
        return None;
    }
    let read = ReadWindow::new(&reader, frames * FRAME).unwrap();
    Some((read, write.unwrap(), writer, reader))
}

/// Commits frame `number` of the stream, at a place of the window.
fn send(window: &mut WriteWindow, number: usize) {
    let at = number * FRAME % window.capacity();
    let mut frame = window.reserve(at..at + FRAME).unwrap();
    for (i, byte) in frame.iter_mut().enumerate() {
        *byte = stream(number * FRAME + i);
    }
    let committed = frame.commit_all().unwrap();
    assert_eq!((committed.done, committed.moved), (FRAME, FRAME));
}

#[test]
fn zpipe_frames_are_not_copied() {
    const FRAMES: usize = 10;
    let Some((mut read, mut write, writer, _)) = windows(4) else {
        return;
    };
    drop(writer);
    in_time(move || {
        let writing =
            thread::spawn(move || (0..FRAMES).for_each(|number| send(&mut write, number)));
        let mut all = 0;
        loop {
            let view = read.peek(0).unwrap();
            if view.is_empty() {
                break;
            }
            assert_eq!(view.copied(), 0);
            for span in &view {
                assert!(span == bytes(all, span.len()));
                all += span.len();
            }
            view.consume_all().unwrap();
        }
        assert_eq!(all, FRAMES * FRAME);
        writing.join().unwrap();
    });
}

#[test]
fn zpipe_bytes_outlive_the_peek() {
    let Some((read, mut write, writer, _)) = windows(4) else {
        return;
    };
    let mut read = BytesWindow::from(read);
    read.set_nonblocking(true);
    send(&mut write, 0);
    (&writer).write_all(b"between").unwrap();
    send(&mut write, 1);
    let mut spans = read.peek(0).unwrap();
    let lengths = spans.iter().map(Bytes::len).collect::<Vec<_>>();
    assert_eq!(lengths, [FRAME, 7, FRAME]);
    let third = spans.pop().unwrap();
    let second = spans.pop().unwrap();
    let first = spans.pop().unwrap().slice(100..200);
    assert!(third == bytes(FRAME, FRAME) && first == bytes(100, 100) && second == "between");

    // No second peek while a span exists, in whatever order they are dropped.
    assert_eq!(errno(read.peek(0)), Some(Errno::BUSY));
    let clone = third.clone();
    drop(third);
    drop(clone);
    drop(second);
    assert_eq!(errno(read.peek(0)), Some(Errno::BUSY));
    // The writer goes on, and the bytes do not change.
    send(&mut write, 2);
    send(&mut write, 3);
    assert!(first == bytes(100, 100));
    thread::spawn(move || drop(first)).join().unwrap();

    // All were consumed with the first one.
    let spans = read.peek(0).unwrap();
    assert!(spans.concat() == bytes(2 * FRAME, 2 * FRAME));
    let mut read = read.into_inner().unwrap_err();
    drop(spans);
    let error = read.peek(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    let mut read = read.into_inner().unwrap();
    assert_eq!(errno(read.consume(1)), Some(Errno::INVAL));
}

#[test]
fn zpipe_bytes_outlive_the_window() {
    let Some((read, mut write, writer, reader)) = windows(2) else {
        return;
    };
    let mut read = BytesWindow::from(read);
    send(&mut write, 0);
    (&writer).write_all(b"the next ones").unwrap();
    let mut spans = read.peek(FRAME).unwrap();
    spans.truncate(1);
    drop((read, write, writer));
    assert!(spans[0] == bytes(0, FRAME));
    drop(spans);
    let _ = reader;
}

#[test]
fn zpipe_bytes_that_are_copied_to_the_window() {
    let Some((read, write, writer, _)) = windows(1) else {
        return;
    };
    drop(write);
    let mut read = BytesWindow::from(read);
    for round in 0..2000 {
        (&writer).write_all(&bytes(round * 3000, 3000)).unwrap();
        let spans = read.peek(0).unwrap();
        assert!(spans.concat() == bytes(round * 3000, 3000));
    }
    drop(writer);
    assert!(read.peek(0).unwrap().is_empty());
}

/// More packets than the first call has space for: MORE must not wait for others.
#[test]
fn zpipe_many_packets() {
    const PACKETS: usize = 100;
    let (reader, writer) = Kind::Zpipe.build(Builder::new().packets(true).capacity(1 << 20));
    let Ok(mut window) = ReadWindow::new(&reader, FRAME) else {
        return;
    };
    window.set_nonblocking(true);
    for number in 0..PACKETS {
        (&writer).write_all(&bytes(number, number + 1)).unwrap();
    }
    let shown = |view: View<'_>| {
        assert!(
            view.iter()
                .enumerate()
                .all(|(number, span)| span == bytes(number, number + 1))
        );
        (0..view.iter().len())
            .filter(|&number| view.is_packet(number))
            .count()
    };
    assert_eq!(shown(window.peek(0).unwrap()), PACKETS);
    let error = window.peek_more(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    (&writer).write_all(&bytes(PACKETS, PACKETS + 1)).unwrap();
    assert_eq!(shown(window.peek_more(0).unwrap()), PACKETS + 1);
    window.consume(1).unwrap();
    assert_eq!(window.peek(0).unwrap().iter().len(), PACKETS);
}

#[test]
fn zpipe_descriptors_that_are_only_paths() {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    for path in ["/dev/zpipe", "/dev/null"] {
        let wanted = if path == "/dev/null" {
            Errno::NOTTY
        } else {
            Errno::BADF
        };
        let fd = rustix::fs::open(path, flags, Mode::empty()).unwrap();
        let rejected = PipeReader::try_from(fd).unwrap_err();
        assert_eq!(Errno::from_io_error(rejected.error()), Some(wanted));
    }
}

#[test]
fn kernel_pipes_have_no_windows() {
    let (reader, writer) = Kind::Kernel.pipe();
    assert_eq!(errno(ReadWindow::new(&reader, FRAME)), Some(Errno::NOTTY));
    assert_eq!(errno(WriteWindow::new(&writer, FRAME)), Some(Errno::NOTTY));
}
