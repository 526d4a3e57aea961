//! Places where a test may end the process, as a power cut would.

/// Ends the process here, if this is the place and the time that `ANABRANCH_CRASH_AT` names:
/// `NAME:HIT`, the hit from 1. Only builds with debug assertions look.
#[inline]
pub(crate) fn crash_point(name: &str) {
    #[cfg(debug_assertions)]
    places::hit(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod places {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    struct Place {
        name: String,
        left: AtomicUsize,
    }

    fn asked() -> Option<Place> {
        let text = std::env::var("ANABRANCH_CRASH_AT").ok()?;
        let (name, hit) = text.split_once(':')?;
        Some(Place {
            name: name.to_owned(),
            left: AtomicUsize::new(hit.parse().ok()?),
        })
    }

    pub(super) fn hit(name: &str) {
        static PLACE: OnceLock<Option<Place>> = OnceLock::new();
        let Some(place) = PLACE.get_or_init(asked) else {
            return;
        };
        if place.name == name && place.left.fetch_sub(1, SeqCst) == 1 {
            std::process::abort();
        }
    }
}
