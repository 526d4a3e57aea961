//! `anabranch broker` as a user meets it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use super::client::{Kafka, until, write};

/// The program at work; killed if a test ends without it.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_anabranch"));
        command.arg("broker").args(arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        Self { child, address }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// The exit code and stderr.
    fn ended(mut self) -> (Option<i32>, String) {
        until("it ends", || self.child.try_wait().unwrap().is_some());
        let code = self.child.wait().unwrap().code();
        let mut told = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut told)
            .unwrap();
        (code, told)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anabranch"));
    let ended = command.arg("broker").args(arguments).output().unwrap();
    (
        ended.status.code(),
        String::from_utf8(ended.stderr).unwrap(),
    )
}

#[test]
fn serves_until_a_signal_and_says_that_it_keeps_nothing() {
    for signal in ["-TERM", "-INT"] {
        let arguments = [
            "--listen",
            "127.0.0.1:0",
            "--topic",
            "a:2",
            "--topic",
            "b:1",
        ];
        let running = Running::start(&arguments);
        let kafka = Kafka::at(running.address.clone());
        write(&kafka, "a", &["x"]);
        assert_eq!(kafka.committed("a"), ["x"]);
        assert_eq!(kafka.watermarks("a", 1), (0, 0));
        assert_eq!(kafka.watermarks("b", 0), (0, 0));
        running.signal(signal);
        let address = running.address.clone();
        let (code, told) = running.ended();
        assert_eq!(code, Some(0), "{told}");
        assert!(
            told.contains(&address) && told.contains("in memory"),
            "{told}"
        );
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[test]
fn says_in_one_line_what_is_wrong() {
    let (code, told) = refused(&["--listen", "0.0.0.0:0"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(
        told.contains("0.0.0.0:0") && told.contains("--allow-remote"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
    let running = Running::start(&["--listen", "127.0.0.1:0"]);
    let (code, told) = refused(&["--listen", &running.address]);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains(&running.address) && told.contains("in use"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
    for wrong in [
        &["--topic", "a"][..],
        &["--topic", "a:0"],
        &["--topic", "a:many"],
        &["--memory", "much"],
        &["--memory", "1KiB", "--listen", "127.0.0.1:0"],
        &["--listen", "nowhere"],
        &["--port", "1"],
    ] {
        let (code, told) = refused(wrong);
        assert_eq!(code, Some(2), "{wrong:?}: {told}");
    }
}

#[test]
fn its_help_fits_a_terminal_and_has_an_example() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anabranch"));
    let help = command.args(["broker", "--help"]).output().unwrap();
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(
        help.lines().all(|line| line.chars().count() <= 100),
        "{help}"
    );
    assert!(
        help.contains("anabranch broker --listen 127.0.0.1:9092 --topic"),
        "{help}"
    );
}
