//! A program in a pseudo-terminal, and what is on its screen; with a deadline for everything that
//! is waited for.

#![allow(dead_code, reason = "each file of tests uses a part")]

use std::fs;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// Far more than any step takes, so that only a hang reaches it.
const DEADLINE: Duration = Duration::from_mins(2);

/// A program in a terminal. Dropped before its end, it is killed.
pub(crate) struct Terminal {
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    bytes: Receiver<Vec<u8>>,
    parser: vt100::Parser,
    /// All bytes so far.
    raw: Vec<u8>,
    coloured: bool,
}

impl Terminal {
    pub(crate) fn start(
        program: &str,
        columns: u16,
        rows: u16,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let pair = native_pty_system().openpty(size(columns, rows)).unwrap();
        let mut command = CommandBuilder::new(program);
        command.args(arguments);
        command.env_remove("NO_COLOR");
        command.env_remove("CARGO");
        command.env("TERM", "xterm-256color");
        for (name, value) in environment {
            command.env(name, value);
        }
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (tell, bytes) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            // At its end a terminal gives an error.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if tell.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            keys: pair.master.take_writer().unwrap(),
            master: pair.master,
            child,
            bytes,
            parser: vt100::Parser::new(rows, columns, 0),
            raw: Vec::new(),
            coloured: false,
        }
    }

    /// The number of the process.
    pub(crate) fn process(&self) -> u32 {
        self.child.process_id().unwrap()
    }

    /// The number of the one process that it has started.
    pub(crate) fn child(&self) -> u32 {
        let own = self.process();
        let tasks = fs::read_dir(format!("/proc/{own}/task")).unwrap();
        let children: String = tasks
            .map(|task| task.unwrap().path().join("children"))
            .filter_map(|path| fs::read_to_string(path).ok())
            .collect();
        let numbers: Vec<_> = children.split_whitespace().collect();
        assert_eq!(numbers.len(), 1, "{children}");
        numbers[0].parse().unwrap()
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    pub(crate) fn resize(&mut self, columns: u16, rows: u16) {
        self.parser.screen_mut().set_size(rows, columns);
        self.master.resize(size(columns, rows)).unwrap();
    }

    /// What is on the screen, row by row.
    pub(crate) fn screen(&self) -> String {
        let (_, columns) = self.parser.screen().size();
        let rows: Vec<_> = self.parser.screen().rows(0, columns).collect();
        rows.join("\n")
    }

    /// Whether a cell had a colour at any moment.
    pub(crate) fn ever_coloured(&self) -> bool {
        self.coloured
    }

    /// Waits until the screen is as wanted; asked whenever it has changed.
    #[track_caller]
    pub(crate) fn wait(&mut self, what: &str, mut is: impl FnMut(&str) -> bool) {
        let since = now();
        loop {
            if is(&self.screen()) {
                return;
            }
            assert!(
                since.elapsed() < DEADLINE,
                "no {what} on:\n{}",
                self.screen()
            );
            assert!(self.more(), "it ended before {what}:\n{}", self.screen());
        }
    }

    /// Takes the next bytes; whether the program is still there.
    fn more(&mut self) -> bool {
        match self.bytes.recv_timeout(Duration::from_secs(5)) {
            Ok(bytes) => {
                self.parser.process(&bytes);
                self.raw.extend_from_slice(&bytes);
                self.coloured |= has_colour(self.parser.screen());
                true
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => false,
        }
    }

    /// Waits until `part` was written so many times.
    #[track_caller]
    pub(crate) fn wait_written(&mut self, part: &str, times: usize) {
        let since = now();
        while self.written().matches(part).count() < times {
            assert!(since.elapsed() < DEADLINE, "{:?}", self.written());
            assert!(self.more(), "it ended: {:?}", self.written());
        }
    }

    /// Everything that was written so far.
    pub(crate) fn written(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }

    /// Waits for its end with this code, and gives all that was written.
    #[track_caller]
    pub(crate) fn closed(&mut self, code: u32) -> String {
        let since = now();
        while self.more() {
            assert!(
                since.elapsed() < DEADLINE,
                "it does not end:\n{}",
                self.screen()
            );
        }
        let status = self.child.wait().unwrap();
        assert_eq!(status.exit_code(), code, "{}", self.screen());
        self.written()
    }

    /// Waits for its end with this code; asserts that the terminal is as it was, and gives what was
    /// written behind the live view.
    #[track_caller]
    pub(crate) fn ended(mut self, code: u32) -> String {
        let all = self.closed(code);
        let (_, behind) = all.rsplit_once("\u{1b}[?1049l").expect("the view was left");
        let screen = self.parser.screen();
        assert!(
            !screen.alternate_screen() && !screen.hide_cursor(),
            "{behind}"
        );
        assert!(
            behind.contains("\r\n"),
            "the terminal is left raw: {behind:?}"
        );
        behind.replace('\r', "")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail when it has ended, which is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether any cell has a colour.
fn has_colour(screen: &vt100::Screen) -> bool {
    let (rows, columns) = screen.size();
    let mut cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    cells.any(|(row, column)| {
        let cell = screen.cell(row, column).unwrap();
        cell.fgcolor() != vt100::Color::Default || cell.bgcolor() != vt100::Color::Default
    })
}

fn size(columns: u16, rows: u16) -> PtySize {
    PtySize {
        rows,
        cols: columns,
        pixel_width: 0,
        pixel_height: 0,
    }
}

/// Sends a signal, as `TERM`.
pub(crate) fn kill(signal: &str, process: u32) {
    let sent = Command::new("kill")
        .args([&format!("-{signal}"), &process.to_string()])
        .status();
    assert!(sent.unwrap().success(), "kill -{signal} {process}");
}

/// Waits until a process is gone; one that nobody has waited for is.
pub(crate) fn wait_gone(process: u32) {
    let since = now();
    let is_alive = || {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
        state.is_some_and(|state| state != "Z")
    };
    while is_alive() {
        assert!(
            since.elapsed() < DEADLINE,
            "process {process} is still there"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

#[expect(clippy::disallowed_methods, reason = "for deadlines")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
