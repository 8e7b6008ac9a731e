// SPDX-License-Identifier: MIT OR Apache-2.0

//! A parent fills frames of a write window and commits them. Its child, which has the read
//! end as its standard input, peeks at them in a read window. The last 8 bytes of each
//! frame are a sum of the other bytes. The child checks it in place.

use std::{
    env,
    error::Error,
    io,
    process::{Command, ExitCode},
};
use zpipe::window::{FRAME, ReadWindow, WriteWindow};

/// Bytes of each window.
const WINDOW: usize = 4 * FRAME;
/// Number of frames to send.
const FRAMES: usize = 32;
/// Bytes of a frame that the sum covers.
const SUMMED: usize = FRAME - size_of::<u64>();

/// The sum of no bytes.
const FNV_1A: u64 = 0xcbf2_9ce4_8422_2325;

fn add(sum: u64, byte: u8) -> u64 {
    (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
}

fn fill(frame: &mut [u8], number: usize) {
    let (summed, place) = frame.split_at_mut(SUMMED);
    let mut sum = FNV_1A + number as u64;
    for (i, byte) in summed.iter_mut().enumerate() {
        *byte = (number + i / 251) as u8;
        sum = add(sum, *byte);
    }
    place.copy_from_slice(&sum.to_le_bytes());
}

fn reader() -> Result<(), Box<dyn Error>> {
    let mut window = ReadWindow::new(io::stdin(), WINDOW)?;
    let (mut bytes, mut sum) = (0, FNV_1A);
    loop {
        let view = window.peek(0)?;
        if view.is_empty() {
            break;
        }
        // A span ends at the end of a frame, or anywhere if its bytes were copied.
        for byte in view.iter().flatten() {
            let place = bytes % FRAME;
            if place == 0 {
                sum = FNV_1A + (bytes / FRAME) as u64;
            }
            if place < SUMMED {
                sum = add(sum, *byte);
            } else if *byte != sum.to_le_bytes()[place - SUMMED] {
                return Err(format!("frame {} is wrong", bytes / FRAME).into());
            }
            bytes += 1;
        }
        view.consume_all()?;
    }
    if bytes != FRAMES * FRAME {
        return Err(format!("{bytes} bytes came").into());
    }
    Ok(())
}

fn writer() -> Result<(), Box<dyn Error>> {
    let (read, write) = zpipe::pipe()?;
    let mut child = Command::new(env::current_exe()?)
        .arg("reader")
        .stdin(read)
        .spawn()?;
    let mut window = WriteWindow::new(write, WINDOW)?;
    let (mut moved, mut copied) = (0, 0);
    for number in 0..FRAMES {
        let at = number * FRAME % WINDOW;
        let mut frame = window.reserve(at..at + FRAME)?;
        fill(&mut frame, number);
        let committed = frame.commit_all()?;
        moved += committed.moved;
        copied += committed.copied;
    }
    // Closing the window ends the data.
    drop(window);
    if !child.wait()?.success() {
        return Err("the reader failed".into());
    }
    println!("Rust: {FRAMES} frames: {moved} bytes moved, {copied} copied, all sums right");
    Ok(())
}

fn main() -> ExitCode {
    let done = match env::args().nth(1).as_deref() {
        Some("reader") => reader(),
        _ => writer(),
    };
    if let Err(error) = done {
        eprintln!("window: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
