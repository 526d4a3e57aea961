//! What a run says of itself, in the lock and in the group, so that others can tell whether it is
//! alive.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::decision::Life;
use crate::observe::{process, time_of_day};

/// A run: `process 4711 since 2026-01-01T12:00:00.000Z (BOOT.SPACE.4711.BEGAN.RUN.MARK)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    since: String,
    /// What tells this start of the machine from every other; `-`: the system does not tell.
    boot: String,
    /// The namespace in which the process has its number.
    space: u64,
    process: u32,
    /// When the process began, in ticks since the machine did: a number is given again.
    began: u64,
    /// Of several in a process.
    run: u64,
    /// Which directory it has.
    mark: String,
}

impl Identity {
    /// A run of this process with the directory `mark`.
    pub(super) fn new(mark: String) -> Self {
        static RUN: AtomicU64 = AtomicU64::new(0);
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let boot: String = boot
            .chars()
            .filter(char::is_ascii_hexdigit)
            .take(16)
            .collect();
        let space = fs::read_link("/proc/self/ns/pid").ok();
        let space = space.and_then(|space| {
            let space = space.to_string_lossy();
            space.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
        });
        Self {
            since: time_of_day().to_string(),
            boot: if boot.is_empty() {
                "-".to_owned()
            } else {
                boot
            },
            space: space.unwrap_or(0),
            process: process(),
            began: match look("self") {
                Process::Began(tick) => tick,
                Process::Gone | Process::Hidden => 0,
            },
            run: RUN.fetch_add(1, Relaxed),
            mark,
        }
    }

    /// Reads what [`fmt::Display`] writes; `None`: somebody else has written it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (person, token) = text.strip_suffix(')')?.rsplit_once(" (")?;
        let (_, since) = person.split_once(" since ")?;
        let mut parts = token.split('.');
        let mut next = || parts.next();
        Some(Self {
            since: since.to_owned(),
            boot: next()?.to_owned(),
            space: next()?.parse().ok()?,
            process: next()?.parse().ok()?,
            began: next()?.parse().ok()?,
            run: next()?.parse().ok()?,
            mark: next()?.to_owned(),
        })
    }

    /// Whether both have the same directory.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        self.mark == other.mark
    }

    /// Whether `member` of the group is alive. `signed`: whoever has, or had last, the lock of this
    /// run's directory, which is `free`.
    pub(super) fn life(&self, member: Option<&Self>, signed: Option<&Self>, free: bool) -> Life {
        // A program that says nothing of itself.
        let Some(member) = member else {
            return Life::Unknown;
        };
        if signed == Some(member) {
            if !free {
                return Life::Alive;
            }
            // On a copy of its directory another lock is free than its own; and on a machine that
            // was copied with all its disks, everything is the same but its start.
            if member.is_of(self) && member.boot == self.boot {
                return Life::Dead;
            }
        }
        let is_near = self.boot != "-" && self.space != 0 && self.began != 0;
        if !is_near || (&member.boot, member.space) != (&self.boot, self.space) {
            return Life::Unknown;
        }
        if (member.process, member.began) == (self.process, self.began) {
            return Life::Unknown; // a run of this process: it may have ended
        }
        match look(&member.process.to_string()) {
            Process::Began(tick) if tick == member.began => Life::Alive,
            Process::Began(_) | Process::Gone => Life::Dead,
            Process::Hidden => Life::Unknown,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            since,
            boot,
            space,
            process,
            began,
            run,
            mark,
        } = self;
        write!(
            f,
            "process {process} since {since} ({boot}.{space}.{process}.{began}.{run}.{mark})"
        )
    }
}

/// What of an [`Identity`] is for people.
pub(crate) fn person(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.split_once(" (").map_or(line, |(person, _)| person)
}

/// What the system tells of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Process {
    /// So many ticks after the machine.
    Began(u64),
    /// There is none of its number, or it has ended.
    Gone,
    Hidden,
}

/// Looks at process `number`.
fn look(number: &str) -> Process {
    let stat = |number: &str| fs::read_to_string(Path::new("/proc").join(number).join("stat"));
    match stat(number) {
        Ok(text) => told(&text).unwrap_or(Process::Hidden),
        // Where those of others are hidden, the first of all is, too.
        Err(why) if why.kind() == ErrorKind::NotFound && stat("1").is_ok() => Process::Gone,
        Err(_) => Process::Hidden,
    }
}

fn told(stat: &str) -> Option<Process> {
    // A name may have spaces and brackets in it; what follows has none.
    let (_, after) = stat.rsplit_once(") ")?;
    let mut fields = after.split(' ');
    let state = fields.next()?;
    if ["Z", "X", "x"].contains(&state) {
        return Some(Process::Gone);
    }
    Some(Process::Began(fields.nth(18)?.parse().ok()?))
}

/// What the holder of a lock writes into it: who it is, and how long its machine had been up. That
/// is no time of day, which may be set to any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) who: Identity,
    up: Option<Duration>,
}

impl Signature {
    pub(super) fn new(who: Identity, up: Option<Duration>) -> Self {
        Self { who, up }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let who = Identity::parse(lines.next()?)?;
        let up = lines.next().and_then(|line| {
            let millis = line
                .strip_prefix("up ")?
                .strip_suffix(" ms")?
                .parse()
                .ok()?;
            Some(Duration::from_millis(millis))
        });
        Some(Self { who, up })
    }

    /// How long ago it was written, for `me` whose machine has been up for `up`; `None`: that was
    /// another machine, or another start of it; or another container, for which a machine may be up
    /// as long as the container is.
    pub(super) fn age(&self, me: &Identity, up: Option<Duration>) -> Option<Duration> {
        let is_known = me.boot != "-" && me.space != 0;
        let same = is_known && (&self.who.boot, self.who.space) == (&me.boot, me.space);
        same.then(|| up?.checked_sub(self.up?)).flatten()
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.who)?;
        if let Some(up) = self.up {
            write!(f, "\nup {} ms", up.as_millis())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Identity {
        Identity::new("2a-5f".to_owned())
    }

    #[test]
    fn what_a_run_says_of_itself_is_read_as_it_was_said() {
        let one = me();
        assert_eq!(Identity::parse(&one.to_string()), Some(one.clone()));
        assert_ne!(me(), one, "another run of the process");
        let signature = Signature::new(one.clone(), Some(Duration::from_millis(1_234)));
        assert_eq!(Signature::parse(&signature.to_string()), Some(signature));
        let person = person(&format!("{one}\nup 12 ms")).to_owned();
        assert_eq!(
            person,
            format!("process {} since {}", one.process, one.since)
        );
        let foreign = [
            "",
            "console-consumer",
            "process 11 since 2026-01-01T00:00:00.000Z", // an older version's
            "process 11 since 2026-01-01T00:00:00.000Z (a.b.c)",
        ];
        for text in foreign {
            assert_eq!(Identity::parse(text), None, "{text}");
            assert_eq!(
                super::person(text),
                text.split_once(" (").map_or(text, |it| it.0)
            );
        }
        assert_eq!(me().life(None, None, true), Life::Unknown);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_of_this_machine_is_known_to_live_until_it_is_gone() {
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let number = child.id().to_string();
        let Process::Began(began) = look(&number) else {
            panic!("it has begun");
        };
        let other = Identity {
            process: child.id(),
            began,
            mark: "elsewhere".to_owned(),
            ..me()
        };
        let life = |member: &Identity| me().life(Some(member), None, true);
        assert_eq!(life(&other), Life::Alive);
        let before = Identity {
            began: began - 1,
            ..other.clone()
        };
        assert_eq!(life(&before), Life::Dead, "its number is another's now");
        let boot = Identity {
            boot: "another".to_owned(),
            ..other.clone()
        };
        let space = Identity {
            space: 1,
            ..other.clone()
        };
        for elsewhere in [boot, space, Identity { run: 77, ..me() }] {
            assert_eq!(life(&elsewhere), Life::Unknown, "{elsewhere}");
        }
        child.kill().unwrap();
        while look(&number) != Process::Gone {
            std::thread::yield_now();
        }
        assert_eq!(
            life(&other),
            Life::Dead,
            "nobody has waited for its end yet"
        );
        child.wait().unwrap();
        assert_eq!(life(&other), Life::Dead);
    }

    #[test]
    fn whoever_had_this_lock_last_is_dead_when_it_is_free_but_not_if_it_is_a_copy_of_its_own() {
        // In another namespace, as a container that is started again.
        let last = Identity { space: 1, ..me() };
        let life = |me: Identity, free| me.life(Some(&last), Some(&last), free);
        assert_eq!(life(me(), true), Life::Dead);
        assert_eq!(life(me(), false), Life::Alive);
        let copy = Identity {
            mark: "7-7".to_owned(),
            ..me()
        };
        assert_eq!(life(copy, true), Life::Unknown);
        let twin = Identity {
            boot: "another".to_owned(),
            ..me()
        };
        assert_eq!(
            life(twin, true),
            Life::Unknown,
            "a copy of the whole machine"
        );
        assert_eq!(
            me().life(Some(&last), Some(&me()), true),
            Life::Unknown,
            "others came since"
        );
    }

    #[test]
    fn how_old_a_lock_is_depends_on_no_time_of_day() {
        let [then, now] = [100, 130].map(|seconds| Some(Duration::from_secs(seconds)));
        // Set by years, in either direction, since the lock was signed.
        for since in ["1970-01-01T00:00:00.000Z", "2100-01-01T00:00:00.000Z"] {
            let who = Identity {
                since: since.to_owned(),
                boot: "b".to_owned(),
                space: 7,
                ..me()
            };
            let here = Identity {
                boot: "b".to_owned(),
                space: 7,
                ..me()
            };
            let signature = Signature::new(who.clone(), then);
            assert_eq!(signature.age(&here, now), Some(Duration::from_secs(30)));
            assert_eq!(signature.age(&here, then), Some(Duration::ZERO));
            // Another start of the machine, another container, or a system that does not tell.
            let boot = Identity {
                boot: "c".to_owned(),
                ..here.clone()
            };
            let [space, nowhere] = [8, 0].map(|space| Identity {
                space,
                ..here.clone()
            });
            for elsewhere in [boot, space, nowhere] {
                assert_eq!(signature.age(&elsewhere, now), None, "{elsewhere}");
            }
            assert_eq!(signature.age(&here, None), None);
            assert_eq!(Signature::new(who.clone(), None).age(&here, now), None);
            assert_eq!(Signature::new(who, now).age(&here, then), None);
        }
    }
}
