//! Figures, printed: `cargo test --release kafka::tests::speed -- --ignored --nocapture
//! --test-threads 1`.
