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
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH},
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
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use termion::{
    event::{Event, Key, parse_event},
    raw::{IntoRawMode, RawTerminal},
    screen::{AlternateScreen, IntoAlternateScreen},
};

/// Leaves the alternate screen, and shows the cursor.
const RESTORE: &str = "\x1b[?1049l\x1b[?25h";

/// The signals that end the program, or stop it. Each of them leaves a usable terminal.
const SIGNALS: [c_int; 5] = [SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGTSTP];

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
    signal: Arc<AtomicUsize>,
    wake: UnixStream,
    keys: File,
}

impl Events {
    fn new() -> io::Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        for number in SIGNALS {
            flag::register_usize(number, Arc::clone(&signal), number as usize)?;
            pipe::register(number, waker.try_clone()?)?;
        }
        pipe::register(SIGWINCH, waker)?;
        Ok(Self {
            signal,
            wake,
            keys: terminal()?,
        })
    }

    /// Waits for a signal or for keys, and returns them.
    fn wait(&mut self, timeout: Duration) -> io::Result<(Option<c_int>, Vec<Event>)> {
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
        let signal = self.signal.swap(0, Ordering::Relaxed);
        let mut events = Vec::new();
        if ready > 0 && polled[1].revents != 0 {
            let mut bytes = [0; 64];
            let len = self.keys.read(&mut bytes)?;
            if len == 0 {
                // The terminal is gone.
                return Ok((Some(SIGHUP), events));
            }
            events = keys_in(&bytes[..len]);
        }
        Ok((
            c_int::try_from(signal).ok().filter(|signal| *signal != 0),
            events,
        ))
    }
}

/// Parses what a terminal sent.
fn keys_in(bytes: &[u8]) -> Vec<Event> {
    // Escape begins the codes of other keys. Alone it is itself.
    if bytes == b"\x1b" {
        return vec![Event::Key(Key::Esc)];
    }
    let mut events = Vec::new();
    let mut rest = bytes.iter().map(|byte| Ok(*byte));
    while let Some(Ok(first)) = rest.next() {
        events.extend(parse_event(first, &mut rest).ok());
    }
    events
}

/// Draws a sample.
fn draw(frame: &mut Frame<'_>, sample: &Sample, order: Order) {
    let layout = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ]);
    let [top, middle, bottom] = layout.areas(frame.area());
    let rate: f64 = sample.pipes.iter().map(|row| row.bytes_per_second).sum();
    let mut summary = format!(
        "zpipe top: {} pipes, {}",
        sample.pipes.len(),
        crate::units::rate(rate)
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

fn act(event: &Event) -> Do {
    let Event::Key(key) = event else {
        return Do::Nothing;
    };
    match key {
        Key::Char('q') | Key::Ctrl('c') | Key::Esc => Do::Quit,
        Key::Ctrl('z') => Do::Stop,
        Key::Char('r') => Do::Sort(Order::Rate),
        Key::Char('f') => Do::Sort(Order::Fill),
        Key::Char('p') => Do::Sort(Order::Pipe),
        Key::Char('w') => Do::Sort(Order::Waits),
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
        for event in keys {
            match act(&event) {
                Do::Quit => return Ok(()),
                Do::Stop => signal = Some(SIGTSTP),
                Do::Sort(wanted) => order = wanted,
                Do::Nothing => (),
            }
        }
        if let Some(signal) = signal {
            // Restores the terminal, for what the signal does to others.
            drop(screen.take());
            emulate_default_handler(signal).map_err(failed)?;
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
        let keys = |codes: &str| keys_in(codes.as_bytes());
        assert_eq!(keys("\x1b"), [Event::Key(Key::Esc)]);
        let both = [Event::Key(Key::Up), Event::Key(Key::Char('q'))];
        assert_eq!(keys("\x1b[Aq"), both);
        assert_eq!(keys("\x03"), [Event::Key(Key::Ctrl('c'))]);
        assert_eq!(keys(""), []);
    }

    #[test]
    fn keys() {
        let sorted = |key| match act(&Event::Key(key)) {
            Do::Sort(order) => Some(order),
            _ => None,
        };
        assert_eq!(sorted(Key::Char('w')), Some(Order::Waits));
        assert_eq!(sorted(Key::Char('x')), None);
        assert!(matches!(act(&Event::Key(Key::Char('q'))), Do::Quit));
        assert!(matches!(act(&Event::Key(Key::Ctrl('c'))), Do::Quit));
    }
}
