//! How each deed is done.

use std::process::Command;
use std::time::Duration;

use super::clock::now;
use super::deeds::{Deed, Moment, Outage};
use super::process::Instance;
use super::proxy::{Hold, Proxy};
use super::round::{EXCUSED, Outcome, PATIENCE, Round};

/// How long somebody may take to notice that it is no longer the one.
const NOTICE: Duration = Duration::from_secs(30);
/// How long an end of a transaction is waited for.
const NEXT_END: Duration = Duration::from_secs(10);

impl Round<'_> {
    pub(crate) fn act(&mut self, deed: Deed) -> Outcome {
        match deed {
            Deed::Kill(moment) => {
                self.reach(moment)?;
                self.kill_and_start()?;
                Ok(())
            }
            Deed::Zombie {
                stop,
                in_doubt,
                kill,
                sleeps,
            } => {
                self.reach(stop)?;
                self.stop(in_doubt)?;
                self.take_over(in_doubt, kill, sleeps)
            }
            Deed::Restart { clean, away } => self.restart_broker(clean, away),
            Deed::Rebuild { kills } => self.rebuild(kills),
            Deed::Outage(outage) => self.outage(outage),
        }
    }

    // ------------------------------------------------------------------------------------- zombies

    /// Stops the instance, if so while it waits for the answer to a commit.
    fn stop(&mut self, in_doubt: bool) -> Outcome {
        if let Some(proxy) = self.stage.proxy.filter(|_| in_doubt) {
            let hold = if self.rng.one_in(2) {
                Hold::Answer(Duration::from_millis(500))
            } else {
                Hold::AnswerLost(Duration::from_millis(500))
            };
            self.hold(proxy, hold)?;
        }
        self.instance.signal("STOP")?;
        Ok(())
    }

    /// Another instance takes over from the one that is stopped, which then wakes.
    fn take_over(&mut self, in_doubt: bool, kill: bool, sleeps: Duration) -> Outcome {
        // In doubt it gets another producer, as at its start: told to, or by a slow machine.
        let in_doubt = in_doubt || self.instance.was_in_doubt();
        let was_up = self.has_committed() && !self.load.is_spent() && !in_doubt;
        let folder = self.stage.folder.join("idle");
        let nobody = Instance::start(&mut Command::new("true"), &folder)?;
        self.zombie = Some(std::mem::replace(&mut self.instance, nobody));
        self.start(&[])?;
        self.reach(Moment::Committed(Duration::ZERO))?;
        if kill {
            self.kill_and_start()?;
            self.reach(Moment::Committed(Duration::ZERO))?;
        }
        self.rest(sleeps)?;
        if let Some(zombie) = &self.zombie {
            zombie.signal("CONT")?;
        }
        self.one_remains(was_up)?;
        self.progresses(PATIENCE)
    }

    /// Of two instances one ends with 4: the one that was stopped, if it was the one. If it was
    /// about to be, by a new producer, its request for that may be on its way when it wakes: it
    /// ends all the same, but may shut the other out, which then ends with 1 and is the one again
    /// once restarted.
    fn one_remains(&mut self, mut was_up: bool) -> Outcome {
        let since = now();
        if !was_up {
            self.excused = self.excused.max(since + NOTICE);
        }
        // It stays the zombie until it is gone: whoever is started meanwhile has to take over.
        while let Some(zombie) = &mut self.zombie {
            let ended = (zombie.ended(), self.instance.ended());
            // It may say so only after it was woken.
            if was_up && ended != (None, None) && zombie.was_in_doubt() {
                was_up = false;
                self.excused = self.excused.max(since + NOTICE);
            }
            match ended {
                (None, None) => {}
                (Some(4), None) => self.zombie = None,
                (None | Some(4), Some(1)) if !was_up => self.revive(1)?,
                (None, Some(4)) if !was_up => {
                    // It was stopped on its way to taking over, and goes on.
                    self.instance = self.zombie.take().expect("there is one");
                }
                (zombie_ended, ended) => {
                    let why = format!(
                        "woken, the zombie ended: {zombie_ended:?}, and the one that had taken \
                         over: {ended:?}\nthe zombie said:\n{}",
                        zombie.said()
                    );
                    return Err(why.into());
                }
            }
            self.look()?;
            if since.elapsed() > NOTICE {
                return Err(format!("both live after {NOTICE:?}").into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    // ----------------------------------------------------------------------------- broker and disk

    /// Only of a real Kafka: the development broker keeps all in memory.
    fn restart_broker(&mut self, clean: bool, away: Duration) -> Outcome {
        self.reach(Moment::Committed(Duration::from_millis(200)))?;
        self.excused = now() + 2 * EXCUSED;
        self.load.pause()?;
        kafka(if clean { "down" } else { "kill" })?;
        self.totals.restarts += 1;
        self.rest(away)?;
        kafka("up")?;
        self.load.resume();
        self.follower.renew();
        self.excused = now() + EXCUSED;
        self.progresses(2 * PATIENCE)
    }

    /// Deletes the state dir, and has it built again, maybe not at the first attempt.
    fn rebuild(&mut self, kills: usize) -> Outcome {
        self.reach(Moment::Committed(Duration::from_millis(100)))?;
        self.kill();
        self.deleted_state();
        let gone = std::fs::remove_dir_all(self.state_dir());
        gone.map_err(|error| format!("the state dir: {error}"))?;
        self.start(&[])?;
        for _ in 0..kills {
            let time = Duration::from_millis(self.rng.bits() % 1_500);
            self.reach(Moment::Started(time))?;
            self.kill_and_start()?;
        }
        self.totals.rebuilds += 1;
        self.reach(Moment::Committed(Duration::ZERO))
    }

    // --------------------------------------------------------------------------------- the network

    fn outage(&mut self, outage: Outage) -> Outcome {
        let Some(proxy) = self.stage.proxy else {
            return Ok(());
        };
        let pause = Duration::from_millis(self.rng.bits() % 300);
        self.reach(Moment::Committed(pause))?;
        self.excused = now() + EXCUSED;
        match outage {
            Outage::Cut => proxy.cut(),
            Outage::Slow(delay, time) => {
                proxy.slow(delay, time);
                self.rest(time)?;
            }
            Outage::Dark(time) => proxy.darken(time),
            Outage::Hold(hold, kill) => {
                self.hold(proxy, hold)?;
                if let Some(after) = kill {
                    self.rest(after)?;
                    self.kill_and_start()?;
                }
            }
        }
        self.totals.outages += 1;
        self.progresses(PATIENCE)?;
        proxy.clear();
        self.excused = now() + EXCUSED / 4;
        Ok(())
    }

    /// Waits until an end of a transaction is held; where nothing is committed, none is.
    fn hold(&mut self, proxy: &Proxy, hold: Hold) -> Outcome {
        let before = proxy.held();
        let until = now() + NEXT_END;
        proxy.hold(hold);
        self.watch("the end of a transaction", PATIENCE, |_| {
            proxy.held() > before || now() > until
        })?;
        self.totals.held += usize::from(proxy.held() > before);
        Ok(())
    }
}

fn kafka(verb: &str) -> Result<(), String> {
    let done = Command::new("scripts/kafka").arg(verb).output();
    let done = done.map_err(|error| format!("scripts/kafka: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(format!("scripts/kafka {verb}: {said}"))
}
