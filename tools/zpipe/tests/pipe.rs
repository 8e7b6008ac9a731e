// SPDX-License-Identifier: MIT OR Apache-2.0

//! Pipes: the same assertions over a zpipe and over a pipe of the kernel's own.

mod common;

use common::{Kind, bytes, errno, in_time};
use rustix::io::Errno;
use std::{
    env,
    error::Error,
    fs::{self, File},
    io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write},
    os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd},
    process::{Command, Stdio},
    thread,
};
use zpipe::{Builder, PipeReader, PipeWriter};

for_both! {
    bytes_arrive,
    both_ends_by_reference,
    vectors,
    clones_keep_an_end_open,
    capacity,
    nonblocking,
    packets,
    standard_streams,
    descriptors_are_close_on_exec,
    wrong_ends,
    raw_descriptors,
    large_transfers,
    buffer_only,
}

fn bytes_arrive(kind: Kind) {
    let (mut reader, mut writer) = kind.pipe();
    writer.write_all(b"hello").unwrap();
    writer.flush().unwrap();
    assert_eq!(reader.available().unwrap(), 5);
    assert_eq!(writer.available().unwrap(), 5);
    let mut got = [0; 3];
    reader.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hel");
    drop(writer);
    assert_eq!(io::read_to_string(&mut reader).unwrap(), "lo");
    assert_eq!(reader.read(&mut got).unwrap(), 0);

    let (reader, mut writer) = kind.pipe();
    drop(reader);
    assert_eq!(
        writer.write(b"x").unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
}

fn both_ends_by_reference(kind: Kind) {
    let (reader, writer) = kind.pipe();
    let mut got = [0; 4];
    (&writer).write_all(b"abcd").unwrap();
    (&writer).flush().unwrap();
    (&reader).read_exact(&mut got).unwrap();
    assert_eq!(&got, b"abcd");
}

fn vectors(kind: Kind) {
    let (mut reader, mut writer) = kind.pipe();
    let slices = [b"one".as_slice(), b"", b"three"].map(IoSlice::new);
    assert_eq!(writer.write_vectored(&slices).unwrap(), 8);
    let (mut first, mut second) = ([0; 2], [0; 9]);
    let mut slices = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    assert_eq!(reader.read_vectored(&mut slices).unwrap(), 8);
    assert_eq!((&first, &second), (b"on", b"ethree\0\0\0"));
    // More than one call takes.
    let many = [IoSlice::new(b"x"); 1025];
    assert_eq!(writer.write_vectored(&many).unwrap(), 1024);
    let mut places = [0; 1025];
    let mut slices: Vec<_> = places.chunks_mut(1).map(IoSliceMut::new).collect();
    assert_eq!(reader.read_vectored(&mut slices).unwrap(), 1024);
    assert_eq!((places[1023], places[1024]), (b'x', 0));
}

fn clones_keep_an_end_open(kind: Kind) {
    let (mut reader, writer) = kind.pipe();
    let mut again = writer.try_clone().unwrap();
    assert_eq!(again.is_zpipe(), writer.is_zpipe());
    drop(writer);
    again.write_all(b"x").unwrap();
    drop(again);
    let mut clone = reader.try_clone().unwrap();
    assert_eq!(io::read_to_string(&mut clone).unwrap(), "x");
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

fn capacity(kind: Kind) {
    let (reader, writer) = kind.pipe();
    assert_eq!(reader.capacity().unwrap(), 16 * 4096);
    assert_eq!(writer.set_capacity(200_000).unwrap(), 1 << 18);
    assert_eq!(reader.capacity().unwrap(), 1 << 18);
    (&writer).write_all(&bytes(0, 100_000)).unwrap();
    assert_eq!(errno(reader.set_capacity(4096)), Some(Errno::BUSY));
    let (reader, _writer) = kind.build(Builder::new().capacity(1 << 19));
    assert_eq!(reader.capacity().unwrap(), 1 << 19);
}

fn nonblocking(kind: Kind) {
    let (mut reader, mut writer) = kind.build(Builder::new().nonblocking(true));
    let kind = |result: io::Result<usize>| result.unwrap_err().kind();
    assert_eq!(kind(reader.read(&mut [0])), ErrorKind::WouldBlock);
    let mut bytes = 0;
    let error = loop {
        match writer.write(&[0; 4096]) {
            Ok(more) => bytes += more,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert_eq!(bytes, writer.capacity().unwrap());
    reader.set_nonblocking(false).unwrap();
    assert_eq!(reader.read(&mut vec![0; 1 << 20]).unwrap(), bytes);
    // Without O_NONBLOCK it waits.
    in_time(move || {
        let reading = thread::spawn(move || reader.read(&mut [0; 10]).unwrap());
        writer.write_all(b"abc").unwrap();
        assert_eq!(reading.join().unwrap(), 3);
    });
}

fn packets(kind: Kind) {
    let (mut reader, mut writer) = kind.build(Builder::new().packets(true));
    writer.write_all(b"one").unwrap();
    writer.write_all(b"three").unwrap();
    let mut got = [0; 10];
    assert_eq!(reader.read(&mut got).unwrap(), 3);
    assert_eq!(reader.read(&mut got).unwrap(), 5);
    assert_eq!(&got[..5], b"three");
}

fn standard_streams(kind: Kind) {
    let (reader, mut writer) = kind.pipe();
    let (out, end) = kind.pipe();
    let mut child = Command::new("cat")
        .stdin(reader)
        .stdout(end)
        .spawn()
        .unwrap();
    writer.write_all(b"through cat").unwrap();
    drop(writer);
    assert_eq!(io::read_to_string(out).unwrap(), "through cat");
    assert!(child.wait().unwrap().success());
}

fn descriptors_are_close_on_exec(kind: Kind) {
    let (reader, writer) = kind.pipe();
    for fd in [
        reader.try_clone().unwrap().into(),
        OwnedFd::from(reader),
        writer.into(),
    ] {
        let flags = rustix::io::fcntl_getfd(fd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
}

fn wrong_ends(kind: Kind) {
    let (reader, writer) = kind.pipe();
    let read = reader.as_raw_fd();
    let wanted = match kind {
        Kind::Zpipe => Errno::BADF,
        Kind::Kernel => Errno::NOTTY,
    };
    let rejected = PipeWriter::try_from(OwnedFd::from(reader)).unwrap_err();
    assert!(rejected.to_string().starts_with("no such end of a zpipe: "));
    assert_eq!(Errno::from_io_error(rejected.error()), Some(wanted));
    assert!(rejected.source().is_none(), "its text is in the message");
    let reader = rejected.into_fd();
    assert_eq!(reader.as_raw_fd(), read);
    let rejected = PipeReader::try_from(OwnedFd::from(writer)).unwrap_err();
    assert_eq!(errno(Err::<(), _>(rejected.into())), Some(wanted));
    let (_, writer) = kind.pipe();
    assert_eq!(PipeReader::try_from(reader).is_ok(), kind == Kind::Zpipe);
    assert_eq!(
        PipeWriter::try_from(OwnedFd::from(writer)).is_ok(),
        kind == Kind::Zpipe
    );
}

fn raw_descriptors(kind: Kind) {
    let (reader, mut writer) = kind.pipe();
    let fd = reader.into_raw_fd();
    // SAFETY: The descriptor was just given up.
    let mut reader = unsafe { PipeReader::from_raw_fd(fd) };
    assert_eq!(reader.is_zpipe(), kind == Kind::Zpipe);
    writer.write_all(b"x").unwrap();
    assert_eq!(reader.read(&mut [0; 2]).unwrap(), 1);
    // It checks nothing, but knows that this is no zpipe: no command is tried.
    let null = File::open("/dev/null").unwrap();
    // SAFETY: The descriptor was just given up.
    let null = unsafe { PipeReader::from_raw_fd(null.into_raw_fd()) };
    assert!(!null.is_zpipe());
    assert_eq!(errno(null.set_buffer_only(true)), Some(Errno::NOTTY));
    assert_eq!(errno(null.is_buffer_only()), Some(Errno::NOTTY));
}

fn large_transfers(kind: Kind) {
    const BYTES: usize = 8 << 20;
    let (mut reader, mut writer) = kind.pipe();
    let got = in_time(move || {
        let writing = thread::spawn(move || writer.write_all(&bytes(0, BYTES)).unwrap());
        let mut got = Vec::with_capacity(BYTES);
        reader.read_to_end(&mut got).unwrap();
        writing.join().unwrap();
        got
    });
    assert!(got == bytes(0, BYTES));
}

fn buffer_only(kind: Kind) {
    let (reader, writer) = kind.build(Builder::new().buffer_only(true));
    assert!(reader.is_buffer_only().unwrap() && writer.is_buffer_only().unwrap());
    let (reader, writer) = kind.pipe();
    let zpipe = kind == Kind::Zpipe;
    assert_eq!(reader.is_buffer_only().unwrap(), !zpipe);
    assert_eq!(reader.set_buffer_only(true).is_ok(), zpipe);
    assert!(reader.is_buffer_only().unwrap() && writer.is_buffer_only().unwrap());
}

mod zpipe_only {
    use super::*;

    /// A number of /proc/self/fdinfo.
    fn number(end: &impl AsRawFd, name: &str) -> u64 {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", end.as_raw_fd())).unwrap();
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        line.strip_prefix(':').unwrap().trim().parse().unwrap()
    }

    #[test]
    fn zpipe_counts_the_bytes() {
        let (mut reader, mut writer) = zpipe::pipe().unwrap();
        writer.write_all(b"hello").unwrap();
        assert_eq!(reader.read(&mut [0; 3]).unwrap(), 3);
        assert_eq!(number(&reader, "zpipe-bytes-written"), 5);
        assert_eq!(number(&writer, "zpipe-bytes-read"), 3);
        let (reader, _) = zpipe::pipe_or_std().unwrap();
        assert!(reader.is_zpipe());
    }

    #[test]
    fn zpipe_nodes() {
        const NODE: &str = "/dev/zpipe";
        let mut quick = Builder::new();
        quick.nonblocking(true);
        let opened = quick.open_writer(NODE);
        assert_eq!(errno(opened), Some(Errno::NXIO));
        let mut reader = quick.buffer_only(true).open_reader(NODE).unwrap();
        assert!(reader.is_zpipe() && reader.is_buffer_only().unwrap());
        assert_eq!(errno(quick.open_writer(NODE)), Some(Errno::BADF));
        let writer = quick
            .buffer_only(false)
            .packets(true)
            .capacity(1 << 17)
            .open_writer(NODE);
        let mut writer = writer.unwrap();
        assert_eq!(reader.capacity().unwrap(), 1 << 17);
        writer.write_all(b"one").unwrap();
        writer.write_all(b"two").unwrap();
        assert_eq!(reader.read(&mut [0; 10]).unwrap(), 3);
        assert_eq!(reader.read(&mut [0; 10]).unwrap(), 3);
        drop((reader, writer));
        in_time(|| {
            let writing = thread::spawn(|| PipeWriter::open(NODE).unwrap().write_all(b"waited"));
            assert_eq!(
                io::read_to_string(PipeReader::open(NODE).unwrap()).unwrap(),
                "waited"
            );
            writing.join().unwrap().unwrap();
        });
        assert_eq!(errno(PipeReader::open("/dev/null")), Some(Errno::NOTTY));
        assert_eq!(errno(PipeWriter::open("/nonexistent")), Some(Errno::NOENT));
        assert_eq!(
            errno(PipeWriter::open("/dev/zpipe-control")),
            Some(Errno::NOTTY)
        );
    }

    /// This program starts itself, and its child reads its standard input.
    #[test]
    fn zpipe_of_standard_input() {
        const CHILD: &str = "ZPIPE_TEST_CHILD";
        if env::var_os(CHILD).is_some() {
            let fd = io::stdin().as_fd().try_clone_to_owned().unwrap();
            let mut reader = PipeReader::try_from(fd).unwrap();
            assert_eq!(reader.read(&mut [0; 2]).unwrap(), 1);
            return;
        }
        let (reader, mut writer) = zpipe::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "zpipe_only::zpipe_of_standard_input"])
            .env(CHILD, "1")
            .stdin(reader)
            .stdout(Stdio::null())
            .spawn();
        assert!(child.unwrap().wait().unwrap().success());
        assert_eq!(number(&writer, "zpipe-bytes-read"), 1);
    }
}
