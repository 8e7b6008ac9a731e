// SPDX-License-Identifier: MIT OR Apache-2.0

//! Copies descriptors to standard output, and measures.

use super::method::{File, Method, status};
use crate::os::Error;
use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    ffi::c_int,
    time::{Duration, Instant},
};

/// The buffer, and its alignment: huge pages that a writer gifted can be moved into it.
const BUFFER: usize = 2 << 20;
/// How much of it is used where huge pages do not matter: the fast memory of a processor holds it.
const SMALL: usize = 256 << 10;
/// How much one call of other methods copies at most. It is also the granularity of the progress.
const CHUNK: usize = 4 << 20;

/// Why copying ended early.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    Input(Error),
    Output(Error),
}

/// What was measured so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    pub bytes: u64,
    /// The bytes of each of [`Method::ALL`].
    pub by_method: [u64; Method::ALL.len()],
    pub waited_for_input: Duration,
    pub waited_for_output: Duration,
}

impl Meter {
    fn count(&mut self, method: Method, bytes: usize) {
        self.bytes += bytes as u64;
        self.by_method[method as usize] += bytes as u64;
    }
}

/// The memory for [`Method::ReadWrite`].
struct Buffer(*mut u8);

impl Buffer {
    const LAYOUT: Layout = match Layout::from_size_align(BUFFER, BUFFER) {
        Ok(layout) => layout,
        Err(_) => panic!("the alignment is a power of two"),
    };

    fn new() -> Self {
        // SAFETY: The size is not zero.
        let base = unsafe { alloc_zeroed(Self::LAYOUT) };
        if base.is_null() {
            handle_alloc_error(Self::LAYOUT);
        }
        // Only an advice: with other pages, gifted ones are copied.
        // SAFETY: It is memory of ours, and the advice does not change its content.
        unsafe { libc::madvise(base.cast(), BUFFER, libc::MADV_HUGEPAGE) };
        Self(base)
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: The memory has this size, is initialized, and only this reference exists.
        unsafe { std::slice::from_raw_parts_mut(self.0, BUFFER) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: It was allocated with this layout.
        unsafe { dealloc(self.0, Self::LAYOUT) };
    }
}

/// A point in time, on the clock and in this thread's processor time.
struct Start(Instant, Duration);

impl Start {
    fn now() -> Self {
        Self(Instant::now(), Self::processor())
    }

    fn processor() -> Duration {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: It writes the time.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
    }

    /// The time since then in which this thread did not run.
    fn waited(&self) -> Duration {
        let ran = Self::processor().saturating_sub(self.1);
        self.0.elapsed().saturating_sub(ran)
    }
}

/// True if poll(2) reports the event within `timeout` milliseconds, or an error.
fn is_ready(fd: c_int, event: i16, timeout: c_int) -> bool {
    let mut poll = libc::pollfd {
        fd,
        events: event,
        revents: 0,
    };
    // SAFETY: It is one struct.
    unsafe { libc::poll(&raw mut poll, 1, timeout) != 0 }
}

/// True if the input is the file that standard output appends to, so that copying would not end.
pub fn is_own_output(input: c_int) -> bool {
    let output = libc::STDOUT_FILENO;
    let (Some(one), Some(other)) = (status(input), status(output)) else {
        return false;
    };
    if (one.st_dev, one.st_ino) != (other.st_dev, other.st_ino) {
        return false;
    }
    // SAFETY: The calls only ask, except that a file that is appended to has no position to lose.
    let (from, to) = unsafe {
        let appends = libc::fcntl(output, libc::F_GETFL) & libc::O_APPEND != 0;
        let whence = if appends {
            libc::SEEK_END
        } else {
            libc::SEEK_CUR
        };
        (
            libc::lseek(input, 0, libc::SEEK_CUR),
            libc::lseek(output, 0, whence),
        )
    };
    // A pipe has no positions.
    (0..to).contains(&from)
}

/// Copies to standard output.
pub struct Copier {
    pub meter: Meter,
    /// Waits are told apart, which costs some calls.
    watches: bool,
    output: c_int,
    buffer: Option<Buffer>,
}

/// How a method ended.
enum End {
    OfData,
    /// Another method has to go on.
    Next,
}

impl Copier {
    pub fn new(watches: bool) -> Self {
        Self {
            meter: Meter::default(),
            watches,
            output: libc::STDOUT_FILENO,
            buffer: None,
        }
    }

    /// Copies a descriptor to its end. Calls `show` now and then.
    pub fn copy(&mut self, input: c_int, show: &mut dyn FnMut(&Meter)) -> Result<(), Failure> {
        let (from, to) = (File::of(input), File::of(self.output));
        // SAFETY: An advice without effect on memory.
        unsafe { libc::posix_fadvise(input, 0, 0, libc::POSIX_FADV_SEQUENTIAL) };
        for method in Method::of(from, to) {
            let end = match method {
                Method::ReadWrite => {
                    let len = if from == File::Zpipe { BUFFER } else { SMALL };
                    self.read_and_write(input, len, show)?
                }
                _ => self.transfer(*method, input, from == File::Regular, show),
            };
            if let End::OfData = end {
                break;
            }
        }
        Ok(())
    }

    /// Copies with one call for input and output. Any error leaves the rest to another method: the
    /// last one finds out whether it is of the input or of the output.
    fn transfer(
        &mut self,
        method: Method,
        input: c_int,
        regular: bool,
        show: &mut dyn FnMut(&Meter),
    ) -> End {
        let mut again = false;
        loop {
            let blame = self.watches.then(|| {
                let start = Start::now();
                if !is_ready(input, libc::POLLIN, 0) {
                    (start, true)
                } else {
                    (start, is_ready(self.output, libc::POLLOUT, 0))
                }
            });
            let result = method.call(input, self.output, CHUNK);
            if let Some((start, of_input)) = blame {
                // If both are ready, this is time for the input, such as that of a disk.
                if of_input {
                    self.meter.waited_for_input += start.waited();
                } else {
                    self.meter.waited_for_output += start.waited();
                }
            }
            match result {
                // Files of /proc are not empty, but cannot be copied in this way.
                Ok(0) if regular => return End::Next,
                Ok(0) => return End::OfData,
                Ok(bytes) => {
                    again = false;
                    self.meter.count(method, bytes);
                    show(&self.meter);
                }
                Err(Error(libc::EINTR)) => (),
                Err(Error(libc::EAGAIN)) if !again => {
                    // It is not known which side it was. If neither has to be waited for, the next
                    // error is for another method.
                    self.wait_for_input(input);
                    again = is_ready(self.output, libc::POLLOUT, 0);
                    self.wait_for_output();
                }
                Err(_) => return End::Next,
            }
        }
    }

    /// Waits until there is data, or its end.
    fn wait_for_input(&mut self, input: c_int) {
        let start = Start::now();
        is_ready(input, libc::POLLIN, -1);
        self.meter.waited_for_input += start.waited();
    }

    /// Waits until there is space.
    fn wait_for_output(&mut self) {
        let start = Start::now();
        is_ready(self.output, libc::POLLOUT, -1);
        self.meter.waited_for_output += start.waited();
    }

    fn read_and_write(
        &mut self,
        input: c_int,
        len: usize,
        show: &mut dyn FnMut(&Meter),
    ) -> Result<End, Failure> {
        let mut buffer = self.buffer.take().unwrap_or_else(Buffer::new);
        let end = loop {
            let start = Start::now();
            let space = &mut buffer.bytes()[..len];
            // SAFETY: The space is valid.
            let read = unsafe { libc::read(input, space.as_mut_ptr().cast(), len) };
            let error = Error::last();
            self.meter.waited_for_input += start.waited();
            match usize::try_from(read) {
                Ok(0) => break Ok(End::OfData),
                Ok(bytes) => {
                    if let Err(error) = self.write(&space[..bytes]) {
                        break Err(Failure::Output(error));
                    }
                    show(&self.meter);
                }
                Err(_) if error == Error(libc::EINTR) => (),
                Err(_) if error == Error(libc::EAGAIN) => self.wait_for_input(input),
                Err(_) => break Err(Failure::Input(error)),
            }
        };
        self.buffer = Some(buffer);
        end
    }

    /// Writes all bytes.
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let start = Start::now();
            // SAFETY: The bytes are valid.
            let written = unsafe { libc::write(self.output, bytes.as_ptr().cast(), bytes.len()) };
            let error = Error::last();
            self.meter.waited_for_output += start.waited();
            match usize::try_from(written) {
                // It would be tried for ever.
                Ok(0) => return Err(Error(libc::ENOSPC)),
                Ok(written) => {
                    self.meter.count(Method::ReadWrite, written);
                    bytes = &bytes[written..];
                }
                Err(_) if error == Error(libc::EINTR) => (),
                Err(_) if error == Error(libc::EAGAIN) => self.wait_for_output(),
                Err(_) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::{self, OpenOptions},
        io::{Read, Write},
        os::fd::{AsRawFd, FromRawFd},
        path::PathBuf,
        ptr,
    };

    /// A file that is removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, content: &[u8]) -> Self {
            let name = format!("zpipe-cat-{name}-{}", std::process::id());
            let scratch = Self(std::env::temp_dir().join(name));
            fs::write(&scratch.0, content).unwrap();
            scratch
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_file(&self.0).unwrap();
        }
    }

    /// A pair of sockets or a pseudoterminal: the ends that a call makes.
    fn ends(make: impl FnOnce(&mut [c_int; 2]) -> c_int) -> [fs::File; 2] {
        let mut fds = [-1; 2];
        assert_eq!(make(&mut fds), 0);
        // SAFETY: The call succeeded, and nobody else owns its descriptors.
        fds.map(|fd| unsafe { fs::File::from_raw_fd(fd) })
    }

    /// Copies an input to a pipe, and returns what the pipe got.
    fn to_pipe(input: &fs::File) -> (Result<(), Failure>, Vec<u8>, Meter) {
        let [read, write] = zpipe_uapi::sys::pipe().unwrap();
        let mut copier = Copier::new(false);
        copier.output = write;
        let result = copier.copy(input.as_raw_fd(), &mut |_| ());
        zpipe_uapi::sys::close(write);
        // SAFETY: Nobody else owns the descriptor.
        let mut read = unsafe { fs::File::from_raw_fd(read) };
        let mut got = Vec::new();
        read.read_to_end(&mut got).unwrap();
        (result, got, copier.meter)
    }

    #[test]
    fn a_reset_of_a_socket_is_an_error() {
        // SAFETY: There is space for two descriptors.
        let make = |fds: &mut [c_int; 2]| unsafe {
            libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, fds.as_mut_ptr())
        };
        let [mut input, mut peer] = ends(make);
        input.write_all(b"never read").unwrap();
        peer.write_all(b"hello").unwrap();
        drop(peer);
        let (result, got, _) = to_pipe(&input);
        assert_eq!(result, Err(Failure::Input(Error(libc::ECONNRESET))));
        assert_eq!(got, b"hello");
    }

    #[test]
    fn the_data_of_a_terminal_ends_once() {
        // SAFETY: There is space for two descriptors, and the other arguments may be missing.
        let make = |[main, other]: &mut [c_int; 2]| unsafe {
            let none = ptr::null_mut();
            libc::openpty(main, other, none, ptr::null(), ptr::null())
        };
        let [mut main, terminal] = ends(make);
        main.write_all(b"one\n\x04two\n\x04").unwrap();
        let (result, got, _) = to_pipe(&terminal);
        assert_eq!((result, &*got), (Ok(()), &b"one\n"[..]));
        assert_eq!(to_pipe(&terminal).1, b"two\n");
    }

    #[test]
    fn a_pipe_has_no_pages_of_a_file() {
        let scratch = Scratch::new("pages", b"before");
        let input = fs::File::open(&scratch.0).unwrap();
        let (_, got, meter) = to_pipe(&input);
        assert_eq!(got, b"before");
        assert_eq!(meter.by_method[Method::ReadWrite as usize], 6);
    }

    /// Copies a path to a path.
    fn copy(from: &str, to: &str) -> (Result<(), Failure>, Meter) {
        let input = fs::File::open(from).unwrap();
        let output = OpenOptions::new().write(true).open(to).unwrap();
        let mut copier = Copier::new(true);
        copier.output = output.as_raw_fd();
        let (mut shown, mut calls) = (0, 0);
        let result = copier.copy(input.as_raw_fd(), &mut |meter| {
            shown = meter.bytes;
            calls += 1;
        });
        assert_eq!(shown, copier.meter.bytes);
        assert!(calls > 0 || shown == 0);
        (result, copier.meter)
    }

    #[test]
    fn files_are_copied_in_the_kernel() {
        let content: Vec<u8> = (0..9_000_001_u32).map(|i| ((i * 7) >> 3) as u8).collect();
        let (from, to) = (Scratch::new("from", &content), Scratch::new("to", b""));
        let (result, meter) = copy(from.0.to_str().unwrap(), to.0.to_str().unwrap());
        assert_eq!(result, Ok(()));
        assert!(fs::read(&to.0).unwrap() == content);
        assert_eq!(meter.bytes, 9_000_001);
        assert_eq!(meter.by_method.iter().sum::<u64>(), 9_000_001);
        assert_eq!(meter.by_method[Method::ReadWrite as usize], 0);
    }

    #[test]
    fn files_of_proc_are_not_empty() {
        let to = Scratch::new("proc", b"");
        let (result, meter) = copy("/proc/self/status", to.0.to_str().unwrap());
        assert_eq!(result, Ok(()));
        assert!(meter.bytes > 100);
        assert_eq!(fs::metadata(&to.0).unwrap().len(), meter.bytes);
    }

    #[test]
    fn errors_have_a_side() {
        let (result, _) = copy("Cargo.toml", "/dev/full");
        assert_eq!(result, Err(Failure::Output(Error(libc::ENOSPC))));
        let (result, _) = copy("/", "/dev/null");
        assert_eq!(result, Err(Failure::Input(Error(libc::EISDIR))));
        let mut copier = Copier::new(false);
        let result = copier.copy(-1, &mut |_| ());
        assert_eq!(result, Err(Failure::Input(Error(libc::EBADF))));
    }

    #[test]
    fn descriptors_that_do_not_wait_are_waited_for() {
        let [read, write] = zpipe_uapi::sys::pipe().unwrap();
        let [read_out, write_out] = zpipe_uapi::sys::pipe().unwrap();
        for fd in [read, write_out] {
            zpipe_uapi::sys::set_status_flags(fd, libc::O_NONBLOCK).unwrap();
        }
        let writer = std::thread::spawn(move || {
            for _ in 0..3 {
                std::thread::sleep(Duration::from_millis(30));
                crate::os::write_all(write, &[1; 50_000]).unwrap();
            }
            zpipe_uapi::sys::close(write);
        });
        let reader = std::thread::spawn(move || {
            let (mut all, mut part) = (0, vec![0_u8; 10_000]);
            loop {
                std::thread::sleep(Duration::from_millis(5));
                // SAFETY: The space is valid.
                let read = unsafe { libc::read(read_out, part.as_mut_ptr().cast(), part.len()) };
                if read <= 0 {
                    return (all, read);
                }
                all += read;
            }
        });
        let mut copier = Copier::new(true);
        copier.output = write_out;
        assert_eq!(copier.copy(read, &mut |_| ()), Ok(()));
        zpipe_uapi::sys::close(write_out);
        writer.join().unwrap();
        assert_eq!(reader.join().unwrap(), (150_000, 0));
        assert_eq!(copier.meter.bytes, 150_000);
    }
}
