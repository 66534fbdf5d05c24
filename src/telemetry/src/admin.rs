use std::future::Future;
use std::io;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

use crate::{Status, Streams};

/// What the local admin port shows.
#[derive(Clone)]
pub struct AdminState {
    streams: Streams,
    metrics: PrometheusHandle,
}

impl AdminState {
    /// Installs the metrics recorder of this process; call once.
    pub fn install(streams: Streams) -> Result<Self, crate::LogSetupError> {
        let metrics = PrometheusBuilder::new()
            .install_recorder()
            .map_err(|error| crate::log::setup_error(&error))?;
        Ok(Self { streams, metrics })
    }
}

impl std::fmt::Debug for AdminState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminState")
    }
}

/// Serves `/metrics`, `/status` and `/healthz` until `stop`.
pub async fn serve_admin(
    listener: TcpListener,
    state: AdminState,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(state);
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

async fn metrics(State(state): State<AdminState>) -> String {
    state.metrics.run_upkeep();
    state.metrics.render()
}

async fn status(State(state): State<AdminState>) -> Json<Vec<Status>> {
    Json(state.streams.list())
}
