// SPDX-License-Identifier: MIT OR Apache-2.0

//! The table on a terminal. The terminal is restored however the program ends, except by SIGKILL.

use super::sample::{COLUMNS, Order, Sample, Sampler, cells};
use crate::os::{self, Error};
use ratatui::{
    Frame, Terminal,
    backend::TermionBackend,
    layout::{Constraint, Layout},
    style::{Modifier, Style},
    widgets::{Paragraph, Row, Table},
};
use signal_hook::{
    consts::{
        SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPIPE, SIGPROF, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1,
        SIGUSR2, SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ,
    },
    flag,
    low_level::{emulate_default_handler, pipe},
};
use std::{
    ffi::c_int,
    fs::{File, OpenOptions},
    io::{self, Read},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixStream,
    },
    panic,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use termion::{
    raw::{IntoRawMode, RawTerminal},
    screen::{AlternateScreen, IntoAlternateScreen},
};

/// Leaves the alternate screen, and shows the cursor.
const RESTORE: &str = "\x1b[?1049l\x1b[?25h";

/// The signals that end the program, and at last the one that stops it. Each of them leaves a
/// usable terminal. Real-time signals and those of faults do not.
const SIGNALS: [c_int; 14] = [
    SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO,
    SIGXCPU, SIGXFSZ, SIGPIPE, SIGTSTP,
];
const CTRL_C: u8 = 3;
const CTRL_Z: u8 = 26;
const ESCAPE: u8 = 27;

/// The terminal while the table is on it.
type Screen = Terminal<TermionBackend<AlternateScreen<RawTerminal<File>>>>;

fn terminal() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty")
}

/// Prepares the terminal. It is restored when the result is dropped.
fn screen() -> io::Result<Screen> {
    let raw = terminal()?.into_raw_mode()?.into_alternate_screen()?;
    Terminal::new(TermionBackend::new(raw))
}

/// Restores the terminal before the message of a panic, which ends the program without drops.
fn restore_after_panic() -> io::Result<()> {
    let tty = terminal()?;
    let mut settings = MaybeUninit::uninit();
    // SAFETY: It writes the settings if it succeeds.
    let settings = unsafe {
        if libc::tcgetattr(tty.as_raw_fd(), settings.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        settings.assume_init()
    };
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        // SAFETY: The settings are those of this terminal.
        unsafe { libc::tcsetattr(tty.as_raw_fd(), libc::TCSANOW, &raw const settings) };
        os::write_all(tty.as_raw_fd(), RESTORE.as_bytes()).ok();
        usual(info);
    }));
    Ok(())
}

/// What came in: signals and keys.
struct Events {
    /// Those of [`SIGNALS`] that came.
    came: [Arc<AtomicBool>; SIGNALS.len()],
    wake: UnixStream,
    keys: File,
}

impl Events {
    fn new() -> io::Result<Self> {
        let came = SIGNALS.map(|_| Arc::new(AtomicBool::new(false)));
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        for (number, came) in SIGNALS.into_iter().zip(&came) {
            flag::register(number, Arc::clone(came))?;
            pipe::register(number, waker.try_clone()?)?;
        }
        pipe::register(SIGWINCH, waker)?;
        Ok(Self {
            came,
            wake,
            keys: terminal()?,
        })
    }

    /// Waits for a signal or for keys, and returns them.
    fn wait(&mut self, timeout: Duration) -> io::Result<(Option<c_int>, Vec<u8>)> {
        let of = |file: &dyn AsFd| libc::pollfd {
            fd: file.as_fd().as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let mut polled = [of(&self.wake), of(&self.keys)];
        let timeout = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: There are two structs.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), 2, timeout) };
        if ready < 0 && Error::last() != Error(libc::EINTR) {
            return Err(io::Error::last_os_error());
        }
        // Empties it. The numbers of the signals are elsewhere.
        while matches!(self.wake.read(&mut [0; 64]), Ok(64)) {}
        // If one ends the program, it does not matter which others came.
        let mut signals = SIGNALS.into_iter().zip(&self.came);
        let signal = signals.find(|(_, came)| came.swap(false, Ordering::Relaxed));
        let mut keys = Vec::new();
        if ready > 0 && polled[1].revents != 0 {
            let mut bytes = [0; 64];
            let len = self.keys.read(&mut bytes)?;
            if len == 0 {
                // The terminal is gone.
                return Ok((Some(SIGHUP), keys));
            }
            keys = keys_in(&bytes[..len]);
        }
        Ok((signal.map(|(number, _)| number), keys))
    }
}

/// Does to this process what a signal does by default.
fn deliver(signal: c_int) -> io::Result<()> {
    if signal != SIGTSTP {
        // emulate_default_handler() would ignore SIGIO, which ends programs on Linux.
        // SAFETY: No other code relies on the handler, and raise() has no safety requirements.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }
    emulate_default_handler(signal)
}

/// Returns the bytes that a terminal sent for plain keys, without the codes of other keys: Escape
/// and a character; Escape, O and a character; or Escape, [, parameters, and a character from @.
fn keys_in(bytes: &[u8]) -> Vec<u8> {
    let mut keys = Vec::new();
    let mut rest = bytes.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        // Escape alone is itself.
        let next = rest.peek().copied().filter(|next| *next != ESCAPE);
        if byte != ESCAPE || next.is_none() {
            keys.push(byte);
            continue;
        }
        rest.next();
        match next {
            Some(b'O') => drop(rest.next()),
            Some(b'[') => drop(rest.find(|byte| (b'@'..=b'~').contains(byte))),
            _ => (),
        }
    }
    keys
}

/// Draws a sample.
fn draw(frame: &mut Frame<'_>, sample: &Sample, order: Order) {
    let layout = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ]);
    let [top, middle, bottom] = layout.areas(frame.area());
    let rates = sample.pipes.iter().filter_map(|row| row.bytes_per_second);
    let mut summary = format!(
        "zpipe top: {} pipes, {}",
        sample.pipes.len(),
        crate::units::rate(rates.sum())
    );
    if sample.hidden > 0 {
        summary.push_str(&format!(
            "; {} processes of others are not shown",
            sample.hidden
        ));
    }
    frame.render_widget(Paragraph::new(summary), top);
    let widths = COLUMNS.map(|(_, width)| match width {
        0 => Constraint::Min(20),
        width => Constraint::Length(width as u16),
    });
    let rows = sample.pipes.iter().map(|row| Row::new(cells(row)));
    let header = Row::new(COLUMNS.map(|(name, _)| name));
    let header = header.style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_widget(Table::new(rows, widths).header(header), middle);
    let keys = format!("q quit; sort by r rate, f fill, p pipe, w waits (now: {order:?})");
    frame.render_widget(Paragraph::new(keys), bottom);
}

/// What a key does.
enum Do {
    Quit,
    Stop,
    Sort(Order),
    Nothing,
}

fn act(key: u8) -> Do {
    match key {
        b'q' | CTRL_C | ESCAPE => Do::Quit,
        CTRL_Z => Do::Stop,
        b'r' => Do::Sort(Order::Rate),
        b'f' => Do::Sort(Order::Fill),
        b'p' => Do::Sort(Order::Pipe),
        b'w' => Do::Sort(Order::Waits),
        _ => Do::Nothing,
    }
}

/// Shows samples until the user quits, or until so many were shown.
pub fn run(
    mut sampler: Sampler,
    count: Option<u64>,
    delay: Duration,
    mut order: Order,
) -> Result<(), String> {
    let failed = |error: io::Error| format!("the terminal: {}", Error::from(error));
    restore_after_panic().map_err(failed)?;
    let mut events = Events::new().map_err(failed)?;
    let mut screen = Some(screen().map_err(failed)?);
    let mut sample = sampler.sample()?;
    let (mut shown, mut due) = (1, Instant::now() + delay);
    loop {
        if Instant::now() >= due {
            if count.is_some_and(|count| shown >= count) {
                return Ok(());
            }
            sample = sampler.sample()?;
            (shown, due) = (shown + 1, Instant::now() + delay);
        }
        sample.sort(order);
        if let Some(screen) = &mut screen {
            screen
                .draw(|frame| draw(frame, &sample, order))
                .map_err(failed)?;
        }
        let left = due.saturating_duration_since(Instant::now());
        // A whole millisecond: poll(2) would not wait for less.
        let left = left.max(Duration::from_millis(1));
        let (mut signal, keys) = events.wait(left).map_err(failed)?;
        for key in keys {
            match act(key) {
                Do::Quit => return Ok(()),
                Do::Stop => signal = Some(SIGTSTP),
                Do::Sort(wanted) => order = wanted,
                Do::Nothing => (),
            }
        }
        if let Some(signal) = signal {
            // Restores the terminal, for what the signal does to others.
            drop(screen.take());
            deliver(signal).map_err(failed)?;
            screen = Some(self::screen().map_err(failed)?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sample::tests::rows, *};
    use ratatui::backend::TestBackend;

    #[test]
    fn the_table_on_a_screen() {
        let sample = Sample {
            time: 0.0,
            seconds: 2.0,
            hidden: 3,
            pipes: rows(),
        };
        let mut terminal = Terminal::new(TestBackend::new(160, 8)).unwrap();
        terminal
            .draw(|frame| draw(frame, &sample, Order::Fill))
            .unwrap();
        let buffer = terminal.backend().buffer();
        let text: String = buffer.content().iter().map(|cell| cell.symbol()).collect();
        for wanted in [
            "zpipe top: 2 pipes, 10.0 kB/s; 3 processes of others are not shown",
            "RATE",
            "zpipe:[77]",
            "c10(10) waits for space from c11(11)",
            "q quit; sort by r rate, f fill, p pipe, w waits (now: Fill)",
        ] {
            assert!(text.contains(wanted), "{wanted}");
        }
        // A small terminal.
        let mut terminal = Terminal::new(TestBackend::new(3, 1)).unwrap();
        terminal
            .draw(|frame| draw(frame, &sample, Order::Rate))
            .unwrap();
    }

    #[test]
    fn codes_of_keys() {
        for (codes, keys) in [
            (&b""[..], &b""[..]),
            (b"rq\x03", b"rq\x03"),
            (b"\x1b", b"\x1b"),
            (b"\x1b\x1b", b"\x1b\x1b"),
            (b"\x1b[Aq", b"q"),
            (b"\x1bOPq", b"q"),
            (b"\x1bqr", b"r"),
            (b"\x1b[300~f", b"f"),
            (b"\x1b[999;999;99~", b""),
            (b"\x1b[<;Mp", b"p"),
            (b"\x1b[1;", b""),
            (b"\x1b[", b""),
            (b"\x1bO", b""),
            (b"\xff\xfew", b"\xff\xfew"),
        ] {
            assert_eq!(keys_in(codes), keys, "{codes:?}");
        }
    }

    #[test]
    fn keys() {
        let sorted = |key| match act(key) {
            Do::Sort(order) => Some(order),
            _ => None,
        };
        assert_eq!(sorted(b'w'), Some(Order::Waits));
        assert_eq!(sorted(b'x'), None);
        assert!(matches!(act(b'q'), Do::Quit));
        assert!(matches!(act(CTRL_C), Do::Quit));
        assert!(matches!(act(CTRL_Z), Do::Stop));
    }
}
