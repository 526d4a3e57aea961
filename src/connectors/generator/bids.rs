//! Bids of an auction house: many small keys, some disorder, hardly anything late.

use std::sync::Arc;

use super::Make;
use super::noise::{Noise, push_decimal};

/// When the first bid is made: a full minute, so that windows begin with the data.
const START: u64 = 1_714_137_600_000;
/// Largest delay of a bid that is on time.
const DISORDER: u32 = 1_500;
/// Every partition has five bids in two milliseconds.
const BIDS_PER_SECOND: u64 = 2_500;
/// One bid in this many is delayed by 3 to 20 s.
const STRAGGLERS: u32 = 1 << 16;
/// Every other bid goes to one of these auctions, which are the first ones.
const HOT: u32 = 100;
/// The rest goes to one of these.
const COLD: u32 = 31_600;
const CHANNELS: [&str; 5] = ["apple", "google", "facebook", "baidu", "direct"];

/// Bids as lines of about 92 bytes with the newline:
/// `{"auction":1007,"bidder":2003,"price":12345,"channel":"apple","date_time":1714137600123}`.
///
/// Time goes on by 2,500 bids a second in each partition. A bid is up to 1.5 s older than its
/// place says, and one in 65,536 up to 20 s, which makes most of those late with a lag of 2 s. Half
/// of the bids go to 100 auctions, the rest to 31,600. With four partitions, tumbling windows of
/// 10 s have a result for every fourth bid.
pub fn bids(seed: u64) -> Make {
    Arc::new(move |partition, index, out| Bid::new(seed, partition, index).write(out))
}

struct Bid {
    auction: u64,
    bidder: u64,
    price: u64,
    channel: &'static str,
    time: u64,
}

impl Bid {
    fn new(seed: u64, partition: u32, index: u64) -> Self {
        let mut noise = Noise::of(seed, partition, index);
        let is_hot = noise.below(2) == 0;
        let auction = if is_hot {
            noise.below(HOT)
        } else {
            HOT + noise.below(COLD)
        };
        // A bit more for each doubling, so that there are many small prices and some large.
        let scale = 10_000 << noise.below(8);
        let straggles = noise.below(STRAGGLERS) == 0;
        let delay = if straggles {
            3_000 + noise.below(17_000)
        } else {
            noise.below(DISORDER + 1)
        };
        let on_time = START + u64::from(DISORDER) + index.saturating_mul(1_000) / BIDS_PER_SECOND;
        Self {
            auction: u64::from(1_000 + auction),
            bidder: u64::from(2_000 + noise.below(200_000)),
            price: u64::from(100 + noise.below(scale)),
            channel: noise.pick(&CHANNELS),
            time: on_time - u64::from(delay),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"auction\":");
        push_decimal(out, self.auction);
        out.extend_from_slice(b",\"bidder\":");
        push_decimal(out, self.bidder);
        out.extend_from_slice(b",\"price\":");
        push_decimal(out, self.price);
        out.extend_from_slice(b",\"channel\":\"");
        out.extend_from_slice(self.channel.as_bytes());
        out.extend_from_slice(b"\",\"date_time\":");
        push_decimal(out, self.time);
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Results and late bids of four partitions of `count` bids: windows of 10 s, lag 2 s.
    fn results(seed: u64, count: u64) -> (usize, usize) {
        let (mut results, mut late) = (Vec::new(), 0);
        for partition in 0..4 {
            let mut watermark = 0;
            for bid in (0..count).map(|index| Bid::new(seed, partition, index)) {
                let end = bid.time / 10_000 + 1;
                if end * 10_000 <= watermark {
                    late += 1;
                } else {
                    results.push(end << 32 | bid.auction);
                }
                watermark = watermark.max(bid.time - 2_000);
            }
        }
        results.sort_unstable();
        results.dedup();
        (results.len(), late)
    }

    #[test]
    fn a_hundred_thousand_bids_have_these_results() {
        assert_eq!(results(1, 25_000), (27_911, 1));
    }

    #[test]
    fn every_fourth_of_five_million_bids_has_a_result_and_hardly_any_is_late() {
        let (results, late) = results(1, 1_250_000);
        assert_eq!((results, late), (1_262_533, 58));
    }

    #[test]
    fn a_bid_is_json_of_about_92_bytes() {
        let mut out = Vec::new();
        let make = bids(1);
        for index in 0..1_000 {
            let from = out.len();
            make(3, index, &mut out);
            let bid: serde_json::Value = serde_json::from_slice(&out[from..]).unwrap();
            let names: Vec<_> = bid.as_object().unwrap().keys().collect();
            assert_eq!(
                names,
                ["auction", "bidder", "channel", "date_time", "price"]
            );
            assert!(bid["auction"].is_i64() && bid["channel"].is_string());
            let (on_time, time) = (
                START + 1_500 + index * 2 / 5,
                bid["date_time"].as_u64().unwrap(),
            );
            assert!((on_time - 1_500..=on_time).contains(&time) || on_time - time >= 3_000);
        }
        assert!((90_500..91_500).contains(&out.len()), "{}", out.len());
    }
}
