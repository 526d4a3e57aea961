//! A job inside an axum service: requests feed it, and what it finds is asked for over HTTP.

#![expect(
    clippy::unnecessary_wraps,
    reason = "a description returns a result: this one has no parameter that could be wrong"
)]

use std::sync::{Arc, Mutex};

use anabranch::embedded::{self, Feed};
use anabranch::prelude::*;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    customer: u64,
    amount: i64,
    placed_at: i64,
}

/// Customer, minute, sum of the amounts.
type Total = (u64, i64, i128);

fn totals(flow: &Flow<'_>) -> Result {
    flow.source::<Order>("orders")
        .json()
        .event_time(
            |order| order.placed_at,
            Watermarks::lag(Duration::from_secs(1)),
        )
        .key_by(|order| order.customer)
        .window(Tumbling::of(Duration::from_mins(1)))
        .aggregate(|a| a.sum(|order| order.amount))
        .emit_final()
        .map(|w| (w.key, w.window.start.millis(), w.value))
        .sink("totals", |s| s.json());
    Ok(())
}

type Found = Arc<Mutex<Vec<Total>>>;

/// A full feed makes the request wait; a job that is over makes it fail.
async fn order(
    State((feed, _)): State<(Feed<Order>, Found)>,
    Json(order): Json<Order>,
) -> StatusCode {
    match feed.send(order).await {
        Ok(()) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn found(State((_, found)): State<(Feed<Order>, Found)>) -> Json<Vec<Total>> {
    Json(found.lock().expect("nobody panics").clone())
}

#[tokio::main]
pub(crate) async fn main() -> Result {
    let (feed, source) = embedded::source(1_024);
    let (sink, mut results) = embedded::sink(1_024);
    let job = Job::new("totals", totals).bind_source("orders", source);
    let settings = Settings::new()
        .workers(2)
        .sink_uri("late", "null:")
        .sink_uri("dead", "null:");
    let job = job.bind_sink("totals", sink).start(settings)?;

    let seen = Found::default();
    let service = Router::new()
        .route("/orders", post(order))
        .route("/totals", get(found))
        .with_state((feed, Arc::clone(&seen)));
    let failed = |why: std::io::Error| Error::operating("the service").because(why);
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let serving = tokio::spawn(async move { axum::serve(listener, service).await });
    let (some, enough) = tokio::sync::oneshot::channel();
    let collecting = tokio::spawn(async move {
        let mut some = Some(some);
        while let Some(total) = results.recv().await {
            seen.lock().expect("nobody panics").push(total);
            if let Some(some) = some.take() {
                let _ = some.send(()); // somebody waits for the first one
            }
        }
    });

    // What the world outside would do.
    for (amount, placed_at) in [(30, 1_000), (12, 59_999), (5, 62_000)] {
        let order = Order {
            customer: 7,
            amount,
            placed_at,
        };
        let body = serde_json::to_string(&order).expect("it is plain");
        let request = "POST /orders HTTP/1.1\r\ncontent-type: application/json\r\n";
        let answer = ask(address, request, &body).await.map_err(failed)?;
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    }
    let _ = enough.await; // the first minute is over
    let answer = ask(address, "GET /totals HTTP/1.1\r\n", "")
        .await
        .map_err(failed)?;
    assert!(answer.ends_with("[[7,0,42]]"), "{answer}");

    let summary = job.stop().await?;
    assert_eq!((summary.used, summary.results), (3, 1));
    serving.abort();
    collecting
        .await
        .map_err(|why| Error::operating("collecting").because(why))
}

async fn ask(address: std::net::SocketAddr, head: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let length = body.len();
    let request =
        format!("{head}host: here\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
