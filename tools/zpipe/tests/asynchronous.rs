// SPDX-License-Identifier: MIT OR Apache-2.0

//! Ends for tokio, and entries for io_uring.

mod common;

use common::{Kind, bytes, filled, stream};
use io_uring::IoUring;
use std::{io::ErrorKind, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    runtime::Builder,
    time::timeout,
};
use zpipe::{
    GiftFlags, HUGE_PAGE, HugeBuffer, MoveFlags,
    io_uring::{read, write},
    tokio::{AsyncPipeReader, AsyncPipeWriter},
};

for_both! {
    streams,
    cancelled_reads_lose_nothing,
    ends,
    gifts,
    rings,
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
        let (reader, writer) = asynchronous(kind);
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
