// SPDX-License-Identifier: MIT OR Apache-2.0

//! Gifts and moves. Over a pipe of the kernel's own, all bytes are copied.

mod common;

use common::{Kind, bytes, filled, in_time, stream};
use rustix::io::Errno;
use std::{
    io::{self, ErrorKind, Read},
    thread,
};
use zpipe::{
    Builder, GiftError, GiftFlags, HUGE_PAGE, HugeBuffer, MoveFlags, PipeReader, Reason, Transfer,
};

for_both! {
    pages_change_owner,
    what_comes_back,
    parts_are_copied,
    errors_give_the_buffer_back,
    the_rest_can_be_gifted_later,
    ranges,
}

/// Expects that the pages moved if the pipe can do that, and were copied otherwise.
fn check(kind: Kind, transfer: &Transfer, bytes: usize) {
    let reasons = transfer.reasons().collect::<Vec<_>>();
    let (moved, copied) = if kind.moves() { (bytes, 0) } else { (0, bytes) };
    let counted = (transfer.done, transfer.moved, transfer.copied);
    assert_eq!(counted, (bytes, moved, copied), "{reasons:?}");
    assert_eq!(reasons.is_empty(), kind.moves() || kind == Kind::Kernel);
}

/// Reads until the buffer is full.
fn fill(reader: &PipeReader, buffer: &mut HugeBuffer, flags: MoveFlags) -> Vec<Transfer> {
    let (mut transfers, mut done) = (Vec::new(), 0);
    while done < buffer.len() {
        let transfer = reader.move_with(buffer, done.., flags).unwrap();
        assert_ne!(transfer.done, 0);
        done += transfer.done;
        transfers.push(transfer);
    }
    transfers
}

fn pages_change_owner(kind: Kind) {
    const PAGES: usize = 6;
    let (reader, writer) = kind.pipe();
    in_time(move || {
        let reading = thread::spawn(move || {
            let mut buffer = HugeBuffer::new(PAGES * HUGE_PAGE).unwrap();
            let moved = fill(&reader, &mut buffer, MoveFlags::empty());
            // The kernel may use a page for a moment, which is copied then.
            let pages = moved.iter().map(|transfer| transfer.moved).sum::<usize>() / HUGE_PAGE;
            assert_eq!(pages > 0, kind.moves(), "{moved:?}");
            assert!(buffer[..] == bytes(0, buffer.len()));
            assert_eq!(reader.move_into(&mut buffer).unwrap().done, 0);
        });
        let gifted = writer
            .gift_with(filled(PAGES), .., GiftFlags::ALWAYS)
            .unwrap();
        assert_eq!(gifted.transfer.done, PAGES * HUGE_PAGE);
        assert_eq!(
            gifted.transfer.moved > 0,
            kind.moves(),
            "{:?}",
            gifted.transfer
        );
        drop(writer);
        reading.join().unwrap();
    });
}

fn what_comes_back(kind: Kind) {
    if !kind.moves() {
        // A write of that size would wait for a reader. The other tests show that it copies.
        return;
    }
    let (reader, writer) = kind.pipe();
    let mut gifted = writer.gift(filled(1)).unwrap();
    check(kind, &gifted.transfer, HUGE_PAGE);
    assert!(gifted.buffer.iter().all(|&byte| byte == 0));
    let mut to = HugeBuffer::new(HUGE_PAGE).unwrap();
    to.fill(9);
    check(
        kind,
        &reader.move_with(&mut to, .., MoveFlags::RETURN).unwrap(),
        HUGE_PAGE,
    );
    assert!(to[..] == bytes(0, HUGE_PAGE));
    // The reader has returned its page, and the writer takes it.
    gifted.buffer.fill(2);
    let gifted = writer.gift_with(gifted.buffer, .., GiftFlags::ANY).unwrap();
    check(kind, &gifted.transfer, HUGE_PAGE);
    assert!(gifted.buffer.iter().all(|&byte| byte == 9));
    check(
        kind,
        &reader.move_with(&mut to, .., MoveFlags::RETURN).unwrap(),
        HUGE_PAGE,
    );
    assert!(to.iter().all(|&byte| byte == 2));
    // It may do so, but need not.
    let all = GiftFlags::CLEAR | GiftFlags::ALWAYS | GiftFlags::ANY;
    let gifted = writer.gift_with(gifted.buffer, .., all).unwrap();
    check(kind, &gifted.transfer, HUGE_PAGE);
    assert!(gifted.buffer.iter().all(|&byte| byte == 0));
}

fn parts_are_copied(kind: Kind) {
    let (reader, writer) = kind.pipe();
    let gifted = writer
        .gift_with(filled(1), 5..1005, GiftFlags::empty())
        .unwrap();
    let counted = (
        gifted.transfer.done,
        gifted.transfer.moved,
        gifted.transfer.copied,
    );
    assert_eq!(counted, (1000, 0, 1000));
    let zpipe = kind == Kind::Zpipe;
    let part = if kind.moves() {
        Reason::Part
    } else {
        Reason::Kernel
    };
    let reasons = gifted.transfer.reasons().collect::<Vec<_>>();
    assert_eq!(reasons.len(), usize::from(zpipe));
    assert!(!kind.moves() || reasons == [(part, 1)]);
    // What was copied is still there.
    assert!(gifted.buffer[..] == bytes(0, HUGE_PAGE));
    let mut to = HugeBuffer::new(HUGE_PAGE).unwrap();
    let transfer = reader.move_with(&mut to, 7.., MoveFlags::empty()).unwrap();
    assert_eq!((transfer.done, transfer.copied), (1000, 1000));
    assert_eq!(to[7..1007], bytes(5, 1000));
    assert_eq!((to[6], to[1007]), (0, 0));
}

fn errors_give_the_buffer_back(kind: Kind) {
    let (reader, writer) = kind.pipe();
    drop(reader);
    let GiftError {
        error,
        buffer,
        transfer,
        ..
    } = writer.gift(filled(2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    assert_eq!(transfer, Transfer::default());
    assert!(buffer[..] == bytes(0, 2 * HUGE_PAGE));
    let error = writer.gift(buffer).unwrap_err();
    assert!(error.to_string().starts_with("gift ended after 0 bytes: "));
    assert_eq!(io::Error::from(error).kind(), ErrorKind::BrokenPipe);
}

fn the_rest_can_be_gifted_later(kind: Kind) {
    const PAGES: usize = 12;
    let (mut reader, writer) = kind.build(Builder::new().nonblocking(true));
    let (mut buffer, mut done, mut tries, mut moved) = (filled(PAGES), 0, 0, 0);
    let mut got = Vec::new();
    loop {
        match writer.gift_with(buffer, done.., GiftFlags::ALWAYS) {
            Ok(gifted) => {
                assert_eq!(done + gifted.transfer.done, PAGES * HUGE_PAGE);
                moved += gifted.transfer.moved;
                break;
            }
            Err(error) => {
                assert_eq!(error.error.kind(), ErrorKind::WouldBlock);
                (buffer, done) = (error.buffer, done + error.transfer.done);
                // The rest is as it was.
                assert_eq!(buffer[done], stream(done));
                assert_eq!(buffer[PAGES * HUGE_PAGE - 1], stream(PAGES * HUGE_PAGE - 1));
                moved += error.transfer.moved;
                tries += 1;
            }
        }
        // Exactly these bytes are in the pipe or were read.
        let _ = reader.read_to_end(&mut got).unwrap_err();
        assert_eq!(got.len(), done);
    }
    let _ = reader.read_to_end(&mut got).unwrap_err();
    assert!(tries > 1 && got == bytes(0, PAGES * HUGE_PAGE));
    assert_eq!(moved > 0, kind.moves());
}

fn ranges(kind: Kind) {
    let (reader, writer) = kind.pipe();
    let mut buffer = filled(1);
    #[allow(clippy::reversed_empty_ranges)]
    for range in [
        4..3,
        0..HUGE_PAGE + 1,
        HUGE_PAGE + 1..HUGE_PAGE + 1,
        1..usize::MAX,
    ] {
        let moved = reader.move_with(&mut buffer, range.clone(), MoveFlags::empty());
        assert_eq!(common::errno(moved), Some(Errno::INVAL));
        let error = writer
            .gift_with(buffer, range, GiftFlags::empty())
            .unwrap_err();
        assert_eq!(Errno::from_io_error(&error.error), Some(Errno::INVAL));
        buffer = error.buffer;
    }
    let gifted = writer.gift_with(buffer, 3..3, GiftFlags::empty()).unwrap();
    assert_eq!(gifted.transfer, Transfer::default());
}
