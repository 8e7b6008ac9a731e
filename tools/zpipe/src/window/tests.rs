// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests of the commands that a window gives the kernel, and of its handling of the
//! answers. The memory of the windows is a memfd's.

use crate::{
    sys::bindings,
    window::{FRAME, ReadWindow, WriteWindow, memory::Memory},
};
use rustix::{fs::MemfdFlags, io::Errno, mm::ProtFlags};
use std::{
    cell::RefCell,
    collections::VecDeque,
    ffi::c_void,
    fs::File,
    io,
    os::unix::{fs::FileExt, net::UnixStream},
};

type Answer = Box<dyn FnOnce(u32, *mut c_void) -> io::Result<()>>;

thread_local! {
    /// Functions that replace the next calls of ioctl(2).
    static ANSWERS: RefCell<VecDeque<Answer>> = const { RefCell::new(VecDeque::new()) };
}

pub(crate) fn answer(command: u32, args: *mut c_void) -> Option<io::Result<()>> {
    let answer = ANSWERS.with(|answers| answers.borrow_mut().pop_front())?;
    Some(answer(command, args))
}

/// Expects the next call to be this command. `with` reads and changes its struct.
fn expect<T: 'static>(number: u32, with: impl FnOnce(&mut T) -> io::Result<()> + 'static) {
    let answer: Answer = Box::new(move |command, args| {
        assert_eq!(command, number);
        // SAFETY: Each command has one struct, and the caller of ioctl() passed a whole
        // one.
        let args = unsafe { &mut *args.cast::<T>() };
        // SAFETY: The struct begins with a number, its size.
        let size = unsafe { *(&raw const *args).cast::<u32>() };
        assert_eq!(size as usize, size_of::<T>());
        with(args)
    });
    ANSWERS.with(|answers| answers.borrow_mut().push_back(answer));
}

fn all_was_asked() -> bool {
    ANSWERS.with(|answers| answers.borrow().is_empty())
}

fn memory(bytes: usize, access: ProtFlags) -> (Memory, File) {
    let fd = rustix::fs::memfd_create("window", MemfdFlags::CLOEXEC).unwrap();
    let file = File::from(fd.try_clone().unwrap());
    file.set_len(bytes as u64).unwrap();
    (Memory::map(fd, bytes, access).unwrap(), file)
}

fn write_window() -> (WriteWindow, File) {
    let (memory, file) = memory(2 * FRAME, ProtFlags::READ | ProtFlags::WRITE);
    (WriteWindow::of(memory), file)
}

fn read_window() -> (ReadWindow, File) {
    let (memory, file) = memory(2 * FRAME, ProtFlags::READ);
    (ReadWindow::of(memory), file)
}

fn expect_reserve(offset: usize, bytes: usize) {
    expect(
        bindings::RESERVE,
        move |args: &mut bindings::zpipe_reserve| {
            assert_eq!((args.offset, args.bytes), (offset as u64, bytes as u64));
            Ok(())
        },
    );
}

fn expect_commit(offset: usize, bytes: usize, result: Result<usize, Errno>) {
    expect(
        bindings::COMMIT,
        move |args: &mut bindings::zpipe_commit| {
            assert_eq!((args.offset, args.bytes), (offset as u64, bytes as u64));
            args.done = result? as u64;
            args.moved = args.done / 4096 * 4096;
            args.copied = args.done % 4096;
            Ok(())
        },
    );
}

/// Expects a peek and shows these spans, as many as there is space for. It copies 7 bytes.
fn expect_peek(flags: u32, spans: &'static [(u64, u64)]) {
    expect(bindings::PEEK, move |args: &mut bindings::zpipe_peek| {
        assert_eq!((args.flags, args.consume), (flags, 0));
        args.nr_views = args.nr_views.min(spans.len() as u32);
        args.copied = 7;
        let views = args.views as *mut bindings::zpipe_view;
        for (i, &(offset, bytes)) in spans.iter().take(args.nr_views as usize).enumerate() {
            let span = bindings::zpipe_view {
                offset,
                bytes,
                flags: i as u32 % 2 * bindings::ZPIPE_VIEW_PACKET,
                reserved: 0,
            };
            // SAFETY: There is space for so many spans.
            unsafe { views.add(i).write(span) };
        }
        Ok(())
    });
}

fn expect_consume(bytes: usize) {
    expect(
        bindings::CONSUME,
        move |args: &mut bindings::zpipe_consume| {
            assert_eq!(args.bytes, bytes as u64);
            Ok(())
        },
    );
}

#[test]
fn numbers_of_the_commands() {
    assert_eq!(bindings::WINDOW, 0xe930);
    assert_eq!(bindings::RESERVE, 0xe931);
    assert_eq!(bindings::COMMIT, 0xe932);
    assert_eq!(bindings::PEEK, 0xe933);
    assert_eq!(bindings::CONSUME, 0xe934);
    assert_eq!(size_of::<bindings::zpipe_window>(), 24);
    assert_eq!(size_of::<bindings::zpipe_reserve>(), 24);
    assert_eq!(size_of::<bindings::zpipe_commit>(), 112);
    assert_eq!(size_of::<bindings::zpipe_view>(), 24);
    assert_eq!(size_of::<bindings::zpipe_peek>(), 48);
    assert_eq!(size_of::<bindings::zpipe_consume>(), 16);
}

#[test]
fn other_files_get_no_commands() {
    let (read, write) = UnixStream::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    expect_consume(0);
    for error in [
        WriteWindow::new(&write, FRAME).unwrap_err(),
        ReadWindow::new(&read, FRAME).unwrap_err(),
        ReadWindow::new(&null, FRAME).unwrap_err(),
    ] {
        assert_eq!(error.raw_os_error(), Some(Errno::NOTTY.raw_os_error()));
    }
    assert!(!all_was_asked());
}

#[test]
fn ranges() {
    let (mut window, _) = write_window();
    let all = 2 * FRAME;

    assert_eq!(window.capacity(), all);
    expect_reserve(0, all);
    assert_eq!(window.reserve(..).unwrap().len(), all);
    expect_reserve(FRAME, 11);
    assert_eq!(window.reserve(FRAME..=FRAME + 10).unwrap().len(), 11);
    assert!(window.reserve(all..).unwrap().is_empty());
    assert_eq!(window.reserve(3..3).unwrap().commit().unwrap().done, 0);
    #[allow(clippy::reversed_empty_ranges)]
    let backwards = 4..3;
    for range in [backwards, 0..all + 1, all + 1..all + 1, 0..usize::MAX] {
        let error = window.reserve(range).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
    }
    assert!(window.reserve(..=usize::MAX).is_err());
    assert!(all_was_asked());
}

#[test]
fn stores_reach_the_window() {
    let (mut window, file) = write_window();
    let mut bytes = [0; 4];

    expect_reserve(FRAME, 4);
    let mut reservation = window.reserve(FRAME..FRAME + 4).unwrap();
    reservation.copy_from_slice(b"abcd");
    file.read_exact_at(&mut bytes, FRAME as u64).unwrap();
    assert_eq!(&bytes, b"abcd");
    // Dropping it sends nothing.
    drop(reservation);

    expect_reserve(FRAME + 1, 4);
    let reservation = window.reserve(FRAME + 1..FRAME + 5).unwrap();
    assert_eq!(&reservation[..], b"bcd\0");
    expect_commit(FRAME + 1, 3, Ok(2));
    assert_eq!(reservation.commit_first(3).unwrap().done, 2);
    assert!(all_was_asked());
}

#[test]
fn one_commit_is_one_write() {
    let (mut window, _) = write_window();

    expect_reserve(0, 10000);
    expect_commit(0, 10000, Ok(5000));
    let committed = window.reserve(..10000).unwrap().commit().unwrap();
    let counted = (committed.done, committed.moved, committed.copied);
    assert_eq!(counted, (5000, 4096, 904));

    expect_reserve(0, 10000);
    expect_commit(0, 10000, Err(Errno::INTR));
    let error = window.reserve(..10000).unwrap().commit().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Interrupted);

    expect_reserve(0, 10000);
    let error = window.reserve(..10000).unwrap().commit_first(10001);
    assert_eq!(
        error.unwrap_err().raw_os_error(),
        Some(Errno::INVAL.raw_os_error())
    );
    assert!(all_was_asked());
}

#[test]
fn commit_all_continues_after_short_writes() {
    let (mut window, _) = write_window();

    expect_reserve(100, 10000);
    expect_commit(100, 10000, Ok(5000));
    expect_commit(5100, 5000, Err(Errno::INTR));
    expect_commit(5100, 5000, Ok(5000));
    let committed = window.reserve(100..10100).unwrap().commit_all().unwrap();
    let counted = (committed.done, committed.moved, committed.copied);
    assert_eq!(counted, (10000, 8192, 1808));

    for (last, kind) in [
        (Err(Errno::AGAIN), io::ErrorKind::WouldBlock),
        (Err(Errno::PIPE), io::ErrorKind::BrokenPipe),
        (Ok(0), io::ErrorKind::WriteZero),
    ] {
        expect_reserve(0, 10);
        expect_commit(0, 10, Ok(1));
        expect_commit(1, 9, last);
        let error = window.reserve(..10).unwrap().commit_all().unwrap_err();
        assert_eq!((error.error.kind(), error.committed.done), (kind, 1));
        assert!(
            error
                .to_string()
                .starts_with("commit ended after 1 bytes: ")
        );
        assert_eq!(io::Error::from(error).kind(), kind);
    }
    assert!(all_was_asked());
}

#[test]
fn nonblocking() {
    let (mut window, _) = write_window();
    let (mut reader, _) = read_window();

    window.set_nonblocking(true);
    expect_reserve(0, 1);
    expect(bindings::COMMIT, |args: &mut bindings::zpipe_commit| {
        assert_eq!(args.flags, bindings::ZPIPE_NONBLOCK);
        Err(Errno::AGAIN.into())
    });
    let error = window.reserve(..1).unwrap().commit().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);

    reader.set_nonblocking(true);
    expect_peek(bindings::ZPIPE_NONBLOCK | bindings::ZPIPE_MORE, &[]);
    assert!(reader.peek_more(0).unwrap().is_empty());
    reader.set_nonblocking(false);
    expect_peek(0, &[]);
    assert!(reader.peek(0).unwrap().is_empty());
    assert!(all_was_asked());
}

#[test]
fn spans_are_shown_in_order() {
    let (mut window, file) = read_window();
    file.write_all_at(b"abcdef", FRAME as u64 - 3).unwrap();

    expect_peek(0, &[(FRAME as u64, 3), (FRAME as u64 - 3, 2)]);
    let view = window.peek(0).unwrap();
    assert_eq!((view.len(), view.is_empty(), view.copied()), (5, false, 7));
    assert_eq!((view.is_packet(0), view.is_packet(1)), (false, true));
    assert_eq!(view.iter().len(), 2);
    assert_eq!(view.iter().collect::<Vec<_>>(), [b"def" as &[u8], b"ab"]);
    assert_eq!((&view).into_iter().map(<[u8]>::len).sum::<usize>(), 5);
    // Dropping it consumes nothing.
    drop(view);

    expect_peek(bindings::ZPIPE_MORE, &[(0, 9)]);
    expect_consume(4);
    window.peek_more(0).unwrap().consume(4).unwrap();

    expect_peek(0, &[(4, 5)]);
    expect_consume(5);
    window.peek(0).unwrap().consume_all().unwrap();

    expect_peek(0, &[(4, 5)]);
    let error = window.peek(0).unwrap().consume(6).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));

    // At the end of the data there is nothing to consume.
    expect_peek(0, &[]);
    let view = window.peek(0).unwrap();
    assert!(view.is_empty() && view.iter().next().is_none());
    view.consume_all().unwrap();
    assert!(all_was_asked());
}

#[test]
fn all_bytes_in_view_are_shown() {
    let (mut window, _) = read_window();

    // The second and the third call cannot wait: they ask for nothing new.
    for flags in [bindings::ZPIPE_MORE, 0, 0] {
        expect_peek(flags, &[(0, 1); 40]);
    }
    let view = window.peek_more(0).unwrap();
    assert_eq!(
        (view.iter().count(), view.len(), view.copied()),
        (40, 40, 21)
    );
    // There is space for 64 now.
    expect_peek(0, &[(0, 1); 63]);
    assert_eq!(window.peek(0).unwrap().len(), 63);
    expect_peek(0, &[(0, 1); 64]);
    expect_peek(0, &[(0, 1); 64]);
    assert_eq!(window.peek(0).unwrap().len(), 64);
    assert!(all_was_asked());
}

#[test]
fn only_shown_bytes_can_be_consumed() {
    let (mut window, _) = read_window();
    let invalid = |result: io::Result<()>| {
        result.unwrap_err().raw_os_error() == Some(Errno::INVAL.raw_os_error())
    };

    assert!(invalid(window.consume(1)));
    expect_peek(0, &[(0, 5), (5, 5)]);
    assert_eq!(window.peek(0).unwrap().len(), 10);
    assert!(invalid(window.consume(11)));
    expect_consume(4);
    window.consume(4).unwrap();
    assert!(invalid(window.consume(7)));
    // A peek that fails shows nothing new.
    expect(bindings::PEEK, |_: &mut bindings::zpipe_peek| {
        Err(Errno::NOBUFS.into())
    });
    assert!(window.peek_more(0).is_err());
    expect_consume(6);
    window.consume(6).unwrap();
    assert!(invalid(window.consume(1)));
    assert!(all_was_asked());
}

#[test]
#[should_panic(expected = "no range of the window")]
fn spans_are_within_the_window() {
    let (mut window, _) = read_window();

    expect_peek(0, &[(2 * FRAME as u64 - 1, 2)]);
    let _ = window.peek(0).unwrap().iter().next();
}
