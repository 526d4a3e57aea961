//! `--http`: `/metrics`, `/livez` and `/readyz`, from a thread of its own that only reads what
//! workers have told (`observe/`).

mod exposition;
mod metrics;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::routing::get;
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::observe::now;
use crate::runtime::Run;

/// A worker that nobody wakes takes a step each quarter of a second, and nothing that it may wait
/// for takes longer than half a minute: one that is silent for twice that is stuck.
const STUCK: Duration = Duration::from_mins(1);

/// What is watched.
struct Watched {
    job: String,
    run: Run,
}

/// Answers until it is dropped.
pub(super) struct Http {
    pub(super) address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Http {
    /// Listens at `address` and tells of `run`.
    ///
    /// # Errors
    /// The address cannot be had.
    pub(super) fn start(address: &str, job: &str, run: &Run) -> Result<Self> {
        let about = |cause| Error::operating(format!("--http {address}")).because(cause);
        let listener = bind(address)?;
        let bound = listener.local_addr().map_err(about)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(about)?;
        let watched = Watched {
            job: job.to_owned(),
            run: run.clone(),
        };
        let (end, ended) = oneshot::channel();
        let serve = move || runtime.block_on(serve(listener, watched, ended));
        let thread = thread::Builder::new().name("http".to_owned()).spawn(serve);
        Ok(Self {
            address: bound,
            end: Some(end),
            thread: Some(thread.map_err(about)?),
        })
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A server that failed has nothing more to say.
            let _ = thread.join();
        }
    }
}

/// Listens at `address`.
///
/// # Errors
/// It cannot be had.
pub(super) fn bind(address: &str) -> Result<TcpListener> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|cause| {
        let why = format!("--http {address}: cannot listen there");
        Error::operating(why).because(cause)
    })
}

async fn serve(listener: TcpListener, watched: Watched, ended: oneshot::Receiver<()>) {
    let app = Router::new()
        .route("/metrics", get(tell_metrics))
        .route("/livez", get(tell_life))
        .route("/readyz", get(tell_readiness))
        .with_state(Arc::new(watched));
    let served = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => tokio::spawn(async { axum::serve(listener, app).await }),
        Err(cause) => return tracing::warn!("no answers over HTTP: {cause}"),
    };
    // Nobody says anything on it: it is dropped, and connections that are open with it.
    let _ = ended.await;
    served.abort();
}

async fn tell_metrics(
    State(watched): State<Arc<Watched>>,
) -> ([(header::HeaderName, &'static str); 1], String) {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, metrics::text(&watched.job, &watched.run))
}

async fn tell_life(State(watched): State<Arc<Watched>>) -> (StatusCode, String) {
    answer(is_alive(&watched.run, now()))
}

async fn tell_readiness(State(watched): State<Arc<Watched>>) -> (StatusCode, String) {
    answer(is_ready(&watched.run))
}

fn answer(verdict: Result<(), String>) -> (StatusCode, String) {
    match verdict {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
    }
}

/// Whether all workers that have begun and not ended have taken a step within the last minute.
fn is_alive(run: &Run, now: Instant) -> Result<(), String> {
    for (worker, told) in run.metrics.workers().iter().enumerate() {
        let silent = told.life.silent(now);
        if silent > STUCK {
            let silent = silent.as_secs();
            return Err(format!("worker {worker} has taken no step for {silent} s"));
        }
    }
    Ok(())
}

/// Whether every worker runs: all sources and sinks are connected and checked, and opened. A run
/// that is being stopped, or has failed, is not.
fn is_ready(run: &Run) -> Result<(), String> {
    if run.control.is_faulty() {
        return Err("failed".to_owned());
    }
    if run.control.is_stopping() {
        return Err("stopping".to_owned());
    }
    let workers = run.metrics.workers();
    let begun = workers.iter().filter(|worker| worker.life.has_begun());
    let (begun, all) = (begun.count(), workers.len());
    if begun < all {
        return Err(format!("starting: {begun} of {all} workers run"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_takes_no_step_is_named() {
        let run = Run::with_workers(2);
        let later = now() + Duration::from_secs(75);
        assert_eq!(is_alive(&run, later), Ok(()), "nothing has begun");
        for worker in run.metrics.workers() {
            worker.life.begin();
            worker.life.step();
        }
        assert_eq!(is_alive(&run, now()), Ok(()));
        let why = is_alive(&run, later).unwrap_err();
        assert!(why.starts_with("worker 0 has taken no step for 7"), "{why}");
        run.metrics.worker(0).life.end();
        assert!(is_alive(&run, later).unwrap_err().starts_with("worker 1 "));
    }

    #[test]
    fn what_is_amiss_is_answered_with_503() {
        assert_eq!(answer(Ok(())), (StatusCode::OK, "ok\n".to_owned()));
        let (status, why) = answer(Err("stopping".to_owned()));
        assert_eq!((status.as_u16(), &*why), (503, "stopping\n"));
    }

    #[test]
    fn a_run_is_ready_from_its_last_worker_to_its_end() {
        let run = Run::with_workers(2);
        run.metrics.worker(1).life.begin();
        let why = is_ready(&run).unwrap_err();
        assert_eq!(why, "starting: 1 of 2 workers run");
        run.metrics.worker(0).life.begin();
        assert_eq!(is_ready(&run), Ok(()));
        run.control.stop(15);
        assert_eq!(is_ready(&run), Err("stopping".to_owned()));
    }
}
