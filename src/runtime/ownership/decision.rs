//! From what is known of the others to what this one does.

use crate::runtime::settings::Instance;

/// Whether somebody in the group is alive. Of several, the liveliest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Life {
    /// Its session outlives it; or nobody is there.
    Dead,
    /// It died less than a session ago, or lives: it runs elsewhere.
    Unknown,
    Alive,
}

/// What is known of the directory's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockFact {
    /// Nobody else has it.
    Free,
    /// Somebody has it. `stopped`: who had the time to join the group, and is not in it.
    Held { stopped: bool },
}

/// What is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) lock: LockFact,
    pub(super) life: Life,
    /// It was looked for longer than a session.
    pub(super) outlived: bool,
    /// Somebody has begun a moment ago who may not be in the group yet.
    pub(super) begun: bool,
    /// There is a group; otherwise the lock is all there is.
    pub(super) grouped: bool,
    pub(super) instance: Instance,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Own,
    /// Without the lock, which somebody keeps that is shut out.
    OwnUnlocked,
    /// Look again.
    Wait,
    /// End: the other one goes on.
    Refuse,
}

pub(super) fn decide(facts: Facts) -> Decision {
    let Facts { lock, life, .. } = facts;
    let takes = facts.instance == Instance::TakesOver;
    let is_there = life != Life::Dead;
    match lock {
        _ if facts.begun && facts.grouped && !takes && !is_there => Decision::Wait,
        LockFact::Free if !facts.grouped || takes || !is_there => Decision::Own,
        LockFact::Held { .. } if facts.grouped && takes => Decision::OwnUnlocked,
        LockFact::Held { stopped: true } if facts.grouped && !is_there => Decision::OwnUnlocked,
        _ if facts.instance == Instance::StandsBy => Decision::Wait,
        LockFact::Held { .. } if !facts.grouped => Decision::Refuse,
        _ if life == Life::Alive || is_there && facts.outlived => Decision::Refuse,
        // It has just died, or is not in the group yet or any more: that is known in a moment.
        _ => Decision::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANCES: [Instance; 3] = [Instance::Yields, Instance::TakesOver, Instance::StandsBy];

    fn all() -> impl Iterator<Item = Facts> {
        let held = |stopped| LockFact::Held { stopped };
        let locks = [LockFact::Free, held(false), held(true)];
        let lives = [Life::Dead, Life::Unknown, Life::Alive];
        locks.into_iter().flat_map(move |lock| {
            lives.into_iter().flat_map(move |life| {
                INSTANCES.into_iter().flat_map(move |instance| {
                    (0..8).map(move |bits| Facts {
                        lock,
                        life,
                        outlived: bits & 1 > 0,
                        grouped: bits & 2 > 0,
                        begun: bits & 4 > 0,
                        instance,
                    })
                })
            })
        })
    }

    fn owns(facts: Facts) -> bool {
        matches!(decide(facts), Decision::Own | Decision::OwnUnlocked)
    }

    #[test]
    fn whoever_lives_is_shut_out_by_those_alone_who_are_told_to() {
        for facts in all().filter(|facts| facts.instance != Instance::TakesOver) {
            let lives = facts.grouped && facts.life != Life::Dead;
            assert!(!lives || !owns(facts), "{facts:?}");
            let held = facts.lock == LockFact::Held { stopped: false };
            assert!(!held || !owns(facts), "{facts:?}");
            let begins = facts.grouped && facts.begun;
            assert!(!begins || !owns(facts), "{facts:?}");
        }
    }

    #[test]
    fn whoever_is_told_to_take_over_does_so_at_once_and_needs_a_group_for_it() {
        for facts in all().filter(|facts| facts.instance == Instance::TakesOver) {
            let expected = match (facts.lock, facts.grouped) {
                (LockFact::Free, _) => Decision::Own,
                (LockFact::Held { .. }, true) => Decision::OwnUnlocked,
                (LockFact::Held { .. }, false) => Decision::Refuse,
            };
            assert_eq!(decide(facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn a_restart_after_the_last_one_has_died_waits_for_nothing() {
        for facts in all().filter(|facts| !facts.begun) {
            let dead = facts.life == Life::Dead || !facts.grouped;
            if dead && facts.lock == LockFact::Free {
                assert_eq!(decide(facts), Decision::Own, "{facts:?}");
            }
        }
    }

    #[test]
    fn a_run_that_stands_by_is_never_refused_and_any_other_ends_in_the_end() {
        for facts in all() {
            let decided = decide(facts);
            let waits = facts.instance == Instance::StandsBy;
            assert!(!waits || decided != Decision::Refuse, "{facts:?}");
            // Whoever holds the lock and is not in the group is known to be stopped in the end; and
            // whoever has begun is in it, or is known to be gone.
            let settled =
                facts.lock != LockFact::Held { stopped: false } || facts.life != Life::Dead;
            if !waits && facts.outlived && settled && !facts.begun {
                assert_ne!(decided, Decision::Wait, "{facts:?}");
            }
            assert_eq!(
                owns(facts) && facts.lock == LockFact::Free,
                decided == Decision::Own
            );
        }
    }

    #[test]
    fn a_member_that_lives_for_certain_is_told_of_at_once_and_any_other_after_its_session() {
        let free = Facts {
            lock: LockFact::Free,
            life: Life::Alive,
            outlived: false,
            begun: false,
            grouped: true,
            instance: Instance::Yields,
        };
        assert_eq!(decide(free), Decision::Refuse);
        let life = Life::Unknown;
        assert_eq!(decide(Facts { life, ..free }), Decision::Wait);
        let outlived = true;
        assert_eq!(
            decide(Facts {
                life,
                outlived,
                ..free
            }),
            Decision::Refuse
        );
    }
}
