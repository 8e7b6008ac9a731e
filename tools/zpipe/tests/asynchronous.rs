// SPDX-License-Identifier: MIT OR Apache-2.0

//! Ends for tokio, and entries for io_uring.

mod common;

use common::{Kind, bytes, errno, filled, stream};
use io_uring::IoUring;
use rustix::{
    fs::{CWD, FileType, Mode, OFlags},
    io::Errno,
};
use std::{
    env, fs,
    future::poll_fn,
    io::ErrorKind,
    mem::ManuallyDrop,
    os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd},
    path::PathBuf,
    pin::pin,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    runtime::Builder,
    time::timeout,
};
use zpipe::{
    GiftFlags, HUGE_PAGE, HugeBuffer, MoveFlags, PipeReader, PipeWriter,
    io_uring::{read, write},
    tokio::{AsyncPipeReader, AsyncPipeWriter},
};

for_both! {
    streams,
    cancelled_reads_lose_nothing,
    ends,
    gifts,
    cancelled_gifts_lose_nothing,
    empty_ranges_need_no_readiness,
    gifts_let_others_run,
    an_end_without_a_runtime,
    readers_of_nodes_wait,
    writers_of_nodes_wait,
    rings,
    entries_hide_their_memory,
    huge_buffers_through_a_ring,
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        timeout(Duration::from_secs(60), future)
            .await
            .expect("in time")
    })
}

fn asynchronous(kind: Kind) -> (AsyncPipeReader, AsyncPipeWriter) {
    let (reader, writer) = kind.pipe();
    (
        AsyncPipeReader::new(reader).unwrap(),
        AsyncPipeWriter::new(writer).unwrap(),
    )
}

fn streams(kind: Kind) {
    const BYTES: usize = 3 << 20;
    run(async {
        let (mut reader, mut writer) = asynchronous(kind);
        assert_eq!(reader.get_ref().is_zpipe(), writer.get_ref().is_zpipe());
        let writing = tokio::spawn(async move {
            let all = bytes(0, BYTES);
            assert!(writer.is_write_vectored());
            writer.write_all_buf(&mut &all[..]).await.unwrap();
            writer.flush().await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        reader.read_to_end(&mut got).await.unwrap();
        writing.await.unwrap();
        assert!(got == bytes(0, BYTES));
    });
}

fn cancelled_reads_lose_nothing(kind: Kind) {
    const BYTES: usize = 100_000;
    run(async {
        let (mut reader, mut writer) = asynchronous(kind);
        let writing = tokio::spawn(async move {
            for start in (0..BYTES).step_by(1000) {
                writer.write_all(&bytes(start, 1000)).await.unwrap();
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
        });
        let (mut got, mut cancelled) = (0, 0);
        let mut buffer = [0; 777];
        loop {
            match timeout(Duration::from_micros(100), reader.read(&mut buffer)).await {
                Err(_) => cancelled += 1,
                Ok(Ok(0)) => break,
                Ok(Ok(len)) => {
                    assert!(
                        buffer[..len]
                            .iter()
                            .enumerate()
                            .all(|(i, &b)| b == stream(got + i))
                    );
                    got += len;
                }
                Ok(Err(error)) => panic!("{error}"),
            }
        }
        writing.await.unwrap();
        assert_eq!(got, BYTES);
        assert_ne!(cancelled, 0);
    });
}

fn ends(kind: Kind) {
    run(async {
        let (mut reader, mut writer) = asynchronous(kind);
        let waiting = timeout(Duration::from_millis(20), reader.read_u8());
        assert!(waiting.await.is_err(), "there is nothing to read");
        let full = timeout(Duration::from_millis(20), writer.write_all(&[0; 1 << 20]));
        assert!(full.await.is_err(), "there is no more space");
        let mut inner = reader.into_inner();
        let len = inner.available().unwrap();
        assert_eq!(len, writer.get_ref().capacity().unwrap());
        std::io::Read::read_exact(&mut inner, &mut vec![0; len]).unwrap();
        drop(inner);
        assert_eq!(
            writer.write(b"x").await.unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
        drop(writer.into_inner());
    });
}

fn gifts(kind: Kind) {
    const PAGES: usize = 6;
    run(async {
        let (mut reader, mut writer) = asynchronous(kind);
        let writing = tokio::spawn(async move {
            let gifted = writer
                .gift_with(filled(PAGES), .., GiftFlags::ALWAYS)
                .await
                .unwrap();
            assert_eq!(gifted.transfer.done, PAGES * HUGE_PAGE);
            assert_eq!(gifted.transfer.moved > 0, kind.moves());
            let error = writer
                .gift_with(gifted.buffer, ..9 << 20, GiftFlags::empty())
                .await;
            assert!(error.is_ok());
        });
        let mut buffer = HugeBuffer::new(HUGE_PAGE).unwrap();
        let (mut got, mut moved) = (0, 0);
        while got < PAGES * HUGE_PAGE {
            let rest = HUGE_PAGE - got % HUGE_PAGE;
            let some = reader
                .move_with(&mut buffer, ..rest, MoveFlags::empty())
                .await
                .unwrap();
            assert!((0..some.done).all(|at| buffer[at] == stream(got + at)));
            (got, moved) = (got + some.done, moved + some.moved);
        }
        assert_eq!(moved > 0, kind.moves());
        let mut rest = 0;
        loop {
            match reader
                .move_with(&mut buffer, .., MoveFlags::empty())
                .await
                .unwrap()
                .done
            {
                0 => break,
                more => rest += more,
            }
        }
        assert_eq!(rest, 9 << 20);
        writing.await.unwrap();
    });
}

fn cancelled_gifts_lose_nothing(kind: Kind) {
    const BYTES: usize = 300_000;
    run(async {
        let (mut reader, mut writer) = asynchronous(kind);
        let reading = tokio::spawn(async move {
            let mut got = Vec::<u8>::new();
            let mut some = [0; 3000];
            loop {
                match reader.read(&mut some).await.unwrap() {
                    0 => break got,
                    len => got.extend(&some[..len]),
                }
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
        });
        let mut buffer = filled(1);
        let (mut done, mut cancelled) = (0, 0);
        while done < BYTES {
            let gift = writer.gift_from(&mut buffer, done..BYTES, GiftFlags::empty());
            match timeout(Duration::from_micros(100), gift).await {
                Err(_) => cancelled += 1,
                Ok(some) => done += some.unwrap().done,
            }
        }
        drop(writer);
        assert!(reading.await.unwrap() == bytes(0, BYTES));
        assert_ne!(cancelled, 0);
    });
}

fn empty_ranges_need_no_readiness(kind: Kind) {
    run(async {
        let (mut reader, mut writer) = asynchronous(kind);
        let mut buffer = HugeBuffer::new(1).unwrap();
        let full = timeout(Duration::from_millis(20), writer.write_all(&[0; 1 << 20]));
        assert!(full.await.is_err(), "there is no more space");
        let moved = writer
            .gift_from(&mut buffer, 5..5, GiftFlags::empty())
            .await;
        assert_eq!(moved.unwrap().done, 0);
        assert_eq!(writer.write(b"").await.unwrap(), 0);
        let past = HUGE_PAGE..HUGE_PAGE + 1;
        let moved = writer.gift_from(&mut buffer, past.clone(), GiftFlags::empty());
        assert_eq!(errno(moved.await), Some(Errno::INVAL));
        let gifted = writer.gift_with(HugeBuffer::new(1).unwrap(), past.clone(), GiftFlags::ANY);
        assert_eq!(errno(gifted.await.map_err(Into::into)), Some(Errno::INVAL));

        let got = std::io::Read::read(&mut reader.get_ref(), &mut vec![0; 1 << 20]);
        assert_eq!(got.unwrap(), reader.get_ref().capacity().unwrap());
        let moved = reader
            .move_with(&mut buffer, 5..5, MoveFlags::empty())
            .await;
        assert_eq!(moved.unwrap().done, 0);
        assert_eq!(reader.read(&mut []).await.unwrap(), 0);
        let moved = reader
            .move_with(&mut buffer, past, MoveFlags::empty())
            .await;
        assert_eq!(errno(moved), Some(Errno::INVAL));
    });
}

/// After each part of a gift the task is woken at once, whether or not there is space for the next.
fn gifts_let_others_run(kind: Kind) {
    run(async {
        let (_reader, mut writer) = asynchronous(kind);
        // From now on the runtime knows that there is space.
        writer.write_u8(1).await.unwrap();
        // It takes more than one write.
        let buffer = filled(8);
        let mut gift = pin!(writer.gift_with(buffer, 1.., GiftFlags::empty()));
        let woken = Arc::new(Woken::default());
        let waker = Arc::clone(&woken).into();
        assert!(
            gift.as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        // The runtime keeps wakers of tasks that yield until the other tasks had their turn.
        tokio::task::yield_now().await;
        assert!(woken.0.load(Ordering::Relaxed));
    });
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// It is given back unchanged: a runtime watches no descriptor twice.
fn an_end_without_a_runtime(kind: Kind) {
    run(async {
        let (reader, _writer) = kind.pipe();
        let fd = reader.as_raw_fd();
        // SAFETY: It is not closed here.
        let same = ManuallyDrop::new(unsafe { PipeReader::from_raw_fd(fd) });
        let first = AsyncPipeReader::new(reader).unwrap();
        first.get_ref().set_nonblocking(false).unwrap();
        let refused = AsyncPipeReader::new(ManuallyDrop::into_inner(same)).unwrap_err();
        assert_eq!(Errno::from_io_error(&refused.error), Some(Errno::EXIST));
        let same = ManuallyDrop::new(refused.end);
        assert_eq!(same.as_raw_fd(), fd);
        let flags = rustix::fs::fcntl_getfl(&*same).unwrap();
        assert!(!flags.contains(OFlags::NONBLOCK));
    });
}

/// A node to which several writers or readers come, one after the other. It is removed at the end.
struct Node {
    path: PathBuf,
    kind: Kind,
}

impl Node {
    fn new(kind: Kind, name: &str) -> Self {
        let path = match kind {
            Kind::Zpipe => "/dev/zpipe".into(),
            Kind::Kernel => env::temp_dir().join(format!("{name}-{}", process::id())),
        };
        if kind == Kind::Kernel {
            let mode = Mode::RUSR | Mode::WUSR;
            rustix::fs::mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
        }
        Self { path, kind }
    }

    fn open(&self, flags: OFlags) -> OwnedFd {
        let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::open(&self.path, flags, Mode::empty()).unwrap()
    }

    fn reader(&self) -> PipeReader {
        // SAFETY: The descriptor is new.
        unsafe { PipeReader::from_raw_fd(self.open(OFlags::RDONLY).into_raw_fd()) }
    }

    fn writer(&self) -> PipeWriter {
        // SAFETY: The descriptor is new.
        unsafe { PipeWriter::from_raw_fd(self.open(OFlags::WRONLY).into_raw_fd()) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.kind == Kind::Kernel {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Expects that a future is not ready for a while, and that it is not polled all the time.
async fn waits<T>(future: impl Future<Output = T>) {
    let mut future = pin!(future);
    let mut polls = 0;
    let counted = poll_fn(|context| {
        polls += 1;
        future.as_mut().poll(context)
    });
    assert!(timeout(Duration::from_millis(300), counted).await.is_err());
    assert!(polls < 20, "{polls} polls");
}

fn readers_of_nodes_wait(kind: Kind) {
    run(async {
        let node = Node::new(kind, "readers");
        let mut reader = AsyncPipeReader::new(node.reader()).unwrap();
        for round in 0..3 {
            let mut writer = node.writer();
            waits(reader.read_u8()).await;
            std::io::Write::write_all(&mut writer, &[round]).unwrap();
            assert_eq!(reader.read_u8().await.unwrap(), round);
            drop(writer);
            // The runtime sees that it is gone.
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert_eq!(reader.read(&mut [0]).await.unwrap(), 0);
        }
        // The same with moves.
        let writer = node.writer();
        let mut buffer = HugeBuffer::new(1).unwrap();
        waits(reader.move_with(&mut buffer, .., MoveFlags::empty())).await;
        std::io::Write::write_all(&mut &writer, b"abc").unwrap();
        let moved = reader.move_with(&mut buffer, .., MoveFlags::empty()).await;
        assert_eq!((moved.unwrap().done, &buffer[..3]), (3, &b"abc"[..]));
    });
}

fn writers_of_nodes_wait(kind: Kind) {
    run(async {
        let node = Node::new(kind, "writers");
        let mut reader = node.reader();
        let mut writer = AsyncPipeWriter::new(node.writer()).unwrap();
        for _ in 0..3 {
            let full = timeout(Duration::from_millis(50), writer.write_all(&[0; 1 << 20]));
            assert!(full.await.is_err(), "there is no more space");
            drop(reader);
            let error = writer.write(b"x").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            reader = node.reader();
            waits(async {
                loop {
                    writer.write_all(&[0; 4096]).await.unwrap();
                }
            })
            .await;
            std::io::Read::read_exact(&mut reader, &mut [0; 4096]).unwrap();
            assert_eq!(writer.write(b"x").await.unwrap(), 1);
        }
    });
}

fn entries_hide_their_memory(kind: Kind) {
    fn is_send<T: Send + Sync>(value: T) -> T {
        value
    }
    let (reader, _writer) = kind.pipe();
    let (_, sent) = read(&reader, b"secret".to_vec());
    let text = format!("{:?}", is_send(&sent));
    assert!(text.contains("len: 6") && !text.contains("115"), "{text}");
    // SAFETY: No ring got the entries.
    assert_eq!(unsafe { sent.complete() }, b"secret");
    let (_, sent) = read(&reader, Box::<[u8]>::from(*b"boxed"));
    // SAFETY: As above.
    assert_eq!(&*unsafe { sent.complete() }, b"boxed");
    let (_, sent) = read(&reader, Vec::new());
    // SAFETY: As above.
    assert!(unsafe { sent.complete() }.is_empty());
}

fn rings(kind: Kind) {
    let (reader, writer) = kind.pipe();
    let mut ring = IoUring::new(4).unwrap();
    let (entry, received) = read(&reader, vec![0; 100].into_boxed_slice());
    // SAFETY: `received` and `sent` keep the buffers and ends until the entries are complete.
    unsafe { ring.submission().push(&entry.user_data(1)).unwrap() };
    ring.submit().unwrap();
    // The read waits for this write.
    let (entry, sent) = write(&writer, bytes(0, 50));
    // SAFETY: As above.
    unsafe { ring.submission().push(&entry.user_data(2)).unwrap() };
    ring.submit_and_wait(2).unwrap();
    let mut results: Vec<_> = ring
        .completion()
        .map(|e| (e.user_data(), e.result()))
        .collect();
    results.sort_unstable();
    assert_eq!(results, [(1, 50), (2, 50)]);
    // SAFETY: The entries are complete.
    let (received, sent) = unsafe { (received.complete(), sent.complete()) };
    assert_eq!((&received[..50], received[50]), (&sent[..], 0));
}

fn huge_buffers_through_a_ring(kind: Kind) {
    const BYTES: usize = 50_000;
    let (reader, writer) = kind.pipe();
    let gifted = writer.gift_with(filled(1), ..BYTES, GiftFlags::empty());
    assert_eq!(gifted.unwrap().transfer.done, BYTES);
    let mut ring = IoUring::new(4).unwrap();
    let (entry, received) = read(&reader, HugeBuffer::new(1).unwrap());
    // SAFETY: `received` keeps the buffer and the end until the entry is complete.
    unsafe { ring.submission().push(&entry).unwrap() };
    ring.submit_and_wait(1).unwrap();
    let result = ring.completion().next().unwrap().result();
    // SAFETY: The entry is complete.
    let buffer = unsafe { received.complete() };
    assert_eq!(result as usize, BYTES);
    assert!(buffer[..BYTES] == bytes(0, BYTES) && buffer[BYTES] == 0);
}
