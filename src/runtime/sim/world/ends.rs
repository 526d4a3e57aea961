//! How instances end, and what that leaves of the machine.

use std::rc::Rc;

use super::World;
use crate::error::{Error, ErrorKind};
use crate::runtime::sim::Flaw;
use crate::runtime::sim::instance::Instance;
use crate::runtime::sim::story::Fate;
use crate::state::lossy::{LossyDisk, Sync};

impl World {
    /// Takes away those that have ended.
    pub(super) fn bury(&self) {
        let instances = self.instances.borrow().clone();
        for instance in instances {
            if instance.life.is_dead() {
                self.remove(&instance);
                continue;
            }
            let Some(body) = instance.body() else {
                continue;
            };
            if body.run.control.is_faulty() {
                if let Some(fault) = body.run.control.take_fault() {
                    self.end(&instance, &fault);
                }
            } else if body.is_over() && !instance.asleep.get() {
                match instance.finish(self) {
                    Ok(false) => {}
                    Ok(true) => self.remove(&instance),
                    Err(error) => self.end(&instance, &error),
                }
            }
        }
    }

    fn remove(&self, instance: &Rc<Instance>) {
        let there = |it: &Rc<Instance>| it.life.number == instance.life.number;
        if !self.instances.borrow().iter().any(there) {
            return;
        }
        self.check();
        let died = instance.life.is_dead();
        instance.life.die();
        self.instances.borrow_mut().retain(|it| !there(it));
        match instance.fate {
            Fate::Killed { .. } if died => self.count(|counts| &mut counts.kills),
            Fate::PowerFails { .. } if died => {
                self.count(|counts| &mut counts.power_losses);
                self.all_die();
                let found = self.disk.borrow().crash(self.dice.draw());
                if self.flaw == Some(Flaw::NoSync) {
                    found.leave_out(Sync::Files);
                }
                *self.disk.borrow_mut() = found;
            }
            Fate::Lost { .. } if died => {
                self.count(|counts| &mut counts.lost_disks);
                self.all_die();
                // What was under way comes before whoever makes the state again.
                self.broker.deliver_all();
                self.check();
                *self.disk.borrow_mut() = LossyDisk::new();
                self.rebuild.set(self.broker.progress().is_some());
            }
            _ => {}
        }
    }

    /// All processes of the machine end.
    fn all_die(&self) {
        let instances = self.instances.borrow();
        instances.iter().for_each(|it| it.life.die());
    }

    /// An instance has ended with `error`: was there a reason for it?
    pub(super) fn end(&self, instance: &Rc<Instance>, error: &Error) {
        let number = instance.life.number;
        let overtaken = !instance.alone.get();
        let shut_out = self.broker.shut_out() > instance.shut_out;
        let expected = instance.life.is_dead()
            || self.done.get()
            || match error.kind() {
                ErrorKind::Owned => overtaken || shut_out,
                ErrorKind::Operating => overtaken || self.disk_failed.get(),
                _ => false,
            };
        self.trace.say(number, &format!("ends: {error}"));
        if !instance.life.is_dead() && overtaken {
            self.count(|counts| &mut counts.overtaken);
        }
        if !expected {
            let kind = error.kind();
            self.say_wrong(format!("instance {number} ends, {kind:?}: {error}"));
        }
        self.remove(instance);
    }
}
