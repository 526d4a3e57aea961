//! A job binary at work: started, fed, watched and signalled as a user would, with a deadline for
//! everything that is waited for.

#![allow(dead_code, reason = "each file of tests uses a part")]

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Far more than any step takes, so that only a hang reaches it.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// How long nothing is asked again.
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a deadline")]
    Instant::now()
}

/// A bid as a line.
pub(crate) fn bid(auction: i64, price: i64, time: i64) -> String {
    format!(
        "{{\"auction\":{auction},\"bidder\":2,\"price\":{price},\"channel\":\"c\",\
         \"date_time\":{time}}}\n"
    )
}

/// Names in a folder, hidden ones too, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

/// The job binary `name`, to be run in `folder`.
pub(crate) fn program(name: &str, folder: &Path, arguments: &[&str]) -> Command {
    let binary = match name {
        "bid_stats" => env!("CARGO_BIN_EXE_bid_stats"),
        "user_activity" => env!("CARGO_BIN_EXE_user_activity"),
        "anabranch" => env!("CARGO_BIN_EXE_anabranch"),
        other => panic!("no binary {other}"),
    };
    binary_at(Path::new(binary), folder, arguments)
}

/// The program at this path, to be run in `folder`.
pub(crate) fn binary_at(path: &Path, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(path);
    command.current_dir(folder).args(arguments);
    // What the tests themselves are told is nothing to the program.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ANABRANCH_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a job binary in `folder` without input, to its end.
pub(crate) fn run(name: &str, folder: &Path, arguments: &[&str]) -> Ended {
    Running::start(&mut program(name, folder, arguments)).ended()
}

/// How a program ended, and the lines it wrote.
#[derive(Debug)]
pub(crate) struct Ended {
    /// 128 and the signal's number, if a signal ended it.
    pub(crate) code: i32,
    pub(crate) out: Vec<String>,
    pub(crate) err: Vec<String>,
}

impl Ended {
    /// Everything on stderr.
    pub(crate) fn said(&self) -> String {
        self.err.join("\n")
    }

    /// The numbers of the summary: read, used, duplicates, late, dead, results.
    pub(crate) fn balance(&self) -> [u64; 6] {
        let summary = self.err.iter().find(|line| line.starts_with("read "));
        let summary = summary.unwrap_or_else(|| panic!("no summary in: {}", self.said()));
        let number = |name: &str| {
            let (_, after) = summary.split_once(name).expect(name);
            let digits = after.trim_start().split(' ').next().unwrap();
            digits.replace(',', "").parse().expect(name)
        };
        let names = [
            "read ",
            "used ",
            "duplicates ",
            "late ",
            "dead ",
            "results ",
        ];
        let balance: [u64; 6] = names.map(number);
        let rest: u64 = balance[1..5].iter().sum();
        assert_eq!(balance[0], rest, "{summary}");
        balance
    }
}

/// A program that runs. Dropped before its end, it is killed.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    input: Option<ChildStdin>,
    out: Receiver<String>,
    err: Receiver<String>,
    lines: (Vec<String>, Vec<String>),
}

impl Running {
    /// Starts it; its output is read from now on.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut running = Self::start_unread(command);
        running.out = lines_of(running.child.stdout.take().unwrap());
        running
    }

    /// Starts it; nobody reads its standard output.
    pub(crate) fn start_unread(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take(),
            out: channel().1,
            err: lines_of(child.stderr.take().unwrap()),
            child,
            lines: Default::default(),
        }
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its standard output, which nobody reads yet.
    pub(crate) fn take_out(&mut self) -> ChildStdout {
        self.child.stdout.take().unwrap()
    }

    /// Its standard input, to be written by somebody else.
    pub(crate) fn take_input(&mut self) -> ChildStdin {
        self.input.take().unwrap()
    }

    /// Gives it input.
    pub(crate) fn write(&mut self, text: &str) {
        let input = self.input.as_mut().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        input.flush().unwrap();
    }

    /// As [`Running::write`], to one that may have ended meanwhile.
    pub(crate) fn write_if_open(&mut self, text: &str) {
        let input = self.input.as_mut().unwrap();
        let written = input.write_all(text.as_bytes());
        let broken = |error: io::Error| assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        written.unwrap_or_else(broken);
    }

    /// Sends `TERM` or `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status();
        assert!(sent.unwrap().success(), "kill -{name} {id}");
    }

    /// Waits for the next line of standard output.
    pub(crate) fn next_out(&mut self) -> String {
        let line = self.out.recv_timeout(DEADLINE).unwrap_or_else(|why| {
            let said: Vec<_> = self.err.try_iter().collect();
            panic!("no line on stdout: {why}; on stderr: {said:?}")
        });
        self.lines.0.push(line.clone());
        line
    }

    /// Waits for a line of standard error that holds `part`.
    pub(crate) fn wait_err(&mut self, part: &str) -> String {
        loop {
            let line = self.err.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|why| panic!("no `{part}` on stderr: {why}"));
            self.lines.1.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Where it answers over HTTP, which it says at its start.
    pub(crate) fn address(&mut self) -> String {
        let line = self.wait_err("http://");
        let (_, address) = line.split_once("http://").unwrap();
        address.trim().to_owned()
    }

    /// Asks it for `path` until its answer holds `says`.
    #[track_caller]
    pub(crate) fn wait_for_answer(&mut self, address: &str, path: &str, says: &str) {
        let deadline = now() + DEADLINE;
        loop {
            let answer = answer(address, path);
            if answer.as_ref().is_ok_and(|answer| answer.contains(says)) {
                return;
            }
            self.assert_runs();
            assert!(now() < deadline, "{path} does not say `{says}`: {answer:?}");
            thread::sleep(PAUSE);
        }
    }

    /// Waits until it has taken so many records.
    #[track_caller]
    pub(crate) fn wait_for_records(&mut self, address: &str, records: usize) {
        let says = format!("\nanabranch_records_entered_total {records}\n");
        self.wait_for_answer(address, "/metrics", &says);
    }

    /// It has not ended; else what it said is shown.
    #[track_caller]
    pub(crate) fn assert_runs(&mut self) {
        if !self.is_running() {
            self.lines.1.extend(self.err.iter());
            panic!("it has ended; on stderr: {:?}", self.lines.1);
        }
    }

    /// Ends its input and waits for its end.
    pub(crate) fn ended(mut self) -> Ended {
        drop(self.input.take());
        self.ended_with_open_input()
    }

    /// Waits for its end.
    pub(crate) fn ended_with_open_input(mut self) -> Ended {
        let mut lines = std::mem::take(&mut self.lines);
        for (stream, lines) in [(&self.out, &mut lines.0), (&self.err, &mut lines.1)] {
            loop {
                match stream.recv_timeout(DEADLINE) {
                    Ok(line) => lines.push(line),
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => panic!("it does not end: {lines:?}"),
                }
            }
        }
        // Its streams are closed: it is at its end.
        let status = self.child.wait().unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        Ended {
            code: status.code().unwrap_or_else(|| 128 + signal.unwrap()),
            out: lines.0,
            err: lines.1,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it has ended, which is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is answered at `address` to a request for `path`.
fn answer(address: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The lines of a stream, as they come; at its end the channel is closed.
fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
