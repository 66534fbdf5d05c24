use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use gatehouse_types::Secret;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tracing::info;

use crate::{Paced, Reach, Status, Streams, Unreached};

/// Longest request body that is read, in bytes.
const BODY_BYTES_MAX: usize = 4096;

/// What the local admin port shows and does.
#[derive(Clone)]
pub struct AdminState {
    streams: Streams,
    reach: Reach,
    token: Arc<Secret<String>>,
    metrics: PrometheusHandle,
}

/// The body of `POST /reach/forget`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Forget {
    /// The partner's domain.
    pub peer: String,
}

/// The answer to it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Forgotten {
    /// How many entries there were.
    pub forgotten: usize,
}

impl AdminState {
    /// Installs the metrics recorder of this process; call once. Whoever knows `token` may change
    /// things; everybody on this machine may look.
    pub fn install(
        streams: Streams,
        reach: Reach,
        token: Secret<String>,
    ) -> Result<Self, crate::LogSetupError> {
        let metrics = PrometheusBuilder::new()
            .install_recorder()
            .map_err(|error| crate::log::setup_error(&error))?;
        Ok(Self { streams, reach, token: Arc::new(token), metrics })
    }

    /// Only a program that can read the token file of the data directory knows the token. A web
    /// page in a browser of this machine does not, nor another user.
    fn allows(&self, headers: &HeaderMap) -> bool {
        let shown = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        shown.is_some_and(|shown| same(shown, self.token.reveal().as_bytes()))
    }
}

impl std::fmt::Debug for AdminState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminState")
    }
}

/// Serves `/metrics`, `/status`, `/reach`, `/pace` and `/healthz`, and takes `POST /reach/forget`,
/// until `stop`.
pub async fn serve_admin(
    listener: TcpListener,
    state: AdminState,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(state)).with_graceful_shutdown(stop).await
}

fn router(state: AdminState) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/reach", get(reach))
        .route("/pace", get(pace))
        .route("/reach/forget", post(forget))
        .route("/healthz", get(|| async { "ok\n" }))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(by_address))
        .with_state(state)
}

/// A web page can have a name of its own lead to this machine, and would be let read what comes back
/// from there. Its browser says that name; nobody else needs one.
async fn by_address(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    if host.is_none_or(|host| host.to_str().is_ok_and(is_here)) {
        return next.run(request).await;
    }
    let text = "ask for this by address or as `localhost`, not by another name\n";
    (StatusCode::MISDIRECTED_REQUEST, text).into_response()
}

/// True for an address and for `localhost`, with or without a port.
fn is_here(host: &str) -> bool {
    if host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = host.split_once(':').map_or(host, |(name, _port)| name);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok()
        || host
            .strip_prefix('[')
            .and_then(|it| it.strip_suffix(']'))
            .is_some_and(|it| it.parse::<IpAddr>().is_ok())
}

async fn metrics(State(state): State<AdminState>) -> String {
    state.metrics.run_upkeep();
    state.metrics.render()
}

async fn status(State(state): State<AdminState>) -> Json<Vec<Status>> {
    Json(state.streams.list())
}

async fn reach(State(state): State<AdminState>) -> Json<Vec<Unreached>> {
    Json(state.reach.list())
}

async fn pace(State(state): State<AdminState>) -> Json<Vec<Paced>> {
    Json(state.reach.paces())
}

async fn forget(
    State(state): State<AdminState>,
    headers: HeaderMap,
    body: String,
) -> Result<Json<Forgotten>, (StatusCode, &'static str)> {
    if !state.allows(&headers) {
        return Err((StatusCode::UNAUTHORIZED, "the token of the data directory is missing\n"));
    }
    let Ok(Forget { peer }) = serde_json::from_str(&body) else {
        return Err((StatusCode::BAD_REQUEST, "write {\"peer\": \"them.example\"}\n"));
    };
    let forgotten = state.reach.forget(&peer);
    info!(peer.domain = peer, forgotten, "an administrator had a partner dialled again");
    Ok(Json(Forgotten { forgotten }))
}

/// Compares in a time that does not depend on where the two differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;
    use crate::{AttemptReport, PaceSource, ReachSource};

    struct Known(Mutex<Vec<Unreached>>);

    impl ReachSource for Known {
        fn list(&self) -> Vec<Unreached> {
            self.0.lock().clone()
        }

        fn forget(&self, peer: &str) -> usize {
            let mut known = self.0.lock();
            let before = known.len();
            known.retain(|one| one.peer != peer);
            before - known.len()
        }
    }

    impl PaceSource for Known {
        fn paces(&self) -> Vec<Paced> {
            self.0.lock().iter().map(|one| paced(&one.peer)).collect()
        }
    }

    fn paced(peer: &str) -> Paced {
        Paced { peer: peer.into(), per_second: 4.5, waiting: 30, waiting_secs: 2, clear_in_secs: 4 }
    }

    fn unreached(peer: &str) -> Unreached {
        Unreached {
            local: "ours.example".into(),
            peer: peer.into(),
            failed_secs_ago: 1,
            failures: 1,
            next_try_secs: 4,
            attempt: AttemptReport { stage: "tcp".into(), ..AttemptReport::default() },
            told: "later".into(),
        }
    }

    /// Sends one request; the status code and the body.
    async fn ask(address: SocketAddr, head: &str, body: &str) -> (u16, String) {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        let length = body.len();
        let request = format!(
            "{head}\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (code, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    #[tokio::test]
    async fn only_who_knows_the_token_may_change_things() {
        let reach = Reach::default();
        let known = vec![unreached("them.example"), unreached("a.example")];
        let known = Arc::new(Known(Mutex::new(known)));
        reach.ask(Arc::clone(&known) as Arc<dyn ReachSource>);
        reach.ask_pace(known);
        let token = Secret::new("0123456789abcdef".to_owned());
        let state = AdminState::install(Streams::default(), reach.clone(), token).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = serve_admin(listener, state, std::future::pending());
        let play = async {
            let (code, body) = ask(address, "GET /reach HTTP/1.1", "").await;
            let listed: Vec<Unreached> = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (code, listed),
                (200, vec![unreached("a.example"), unreached("them.example")])
            );

            let (code, body) = ask(address, "GET /pace HTTP/1.1", "").await;
            let listed: Vec<Paced> = serde_json::from_str(&body).unwrap();
            assert_eq!((code, listed), (200, vec![paced("a.example"), paced("them.example")]));

            // The first `Host` is the one that counts.
            for path in ["/reach", "/pace", "/status", "/metrics"] {
                let head = format!("GET {path} HTTP/1.1\r\nHost: evil.example:5280");
                assert_eq!(ask(address, &head, "").await.0, 421, "{path}");
            }

            let them = "{\"peer\":\"them.example\"}";
            let post = "POST /reach/forget HTTP/1.1";
            for authorization in [
                "",
                "\r\nAuthorization: Bearer ",
                "\r\nAuthorization: Bearer 0123456789abcdee",
                "\r\nAuthorization: Bearer 0123456789abcdef0",
                "\r\nAuthorization: Basic 0123456789abcdef",
            ] {
                let (code, _) = ask(address, &format!("{post}{authorization}"), them).await;
                assert_eq!((code, reach.list().len()), (401, 2), "{authorization}");
            }
            let allowed = format!("{post}\r\nAuthorization: Bearer 0123456789abcdef");
            for body in ["", "them.example", "{\"peer\":1}", "{\"peer\":\"a\",\"b\":1}"] {
                assert_eq!(ask(address, &allowed, body).await.0, 400, "{body}");
            }
            assert_eq!(ask(address, &allowed, &"x".repeat(5000)).await.0, 413);
            assert_eq!(ask(address, "GET /reach/forget HTTP/1.1", "").await.0, 405);
            let (code, body) = ask(address, &allowed, them).await;
            assert_eq!((code, body.as_str()), (200, "{\"forgotten\":1}"));
            assert_eq!(reach.list(), [unreached("a.example")]);
        };
        tokio::select! {
            _ = served => panic!("the server ended"),
            () = play => {}
        }
    }

    #[test]
    fn whom_a_browser_may_ask() {
        for (host, expected) in [
            ("localhost", true),
            ("LOCALHOST:5280", true),
            ("127.0.0.1:5280", true),
            ("127.0.0.1", true),
            ("[::1]:5280", true),
            ("[::1]", true),
            ("evil.example", false),
            ("evil.example:5280", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example:5280", false),
            ("", false),
        ] {
            assert_eq!(is_here(host), expected, "{host}");
        }
    }

    #[test]
    fn without_an_edge_everything_is_reachable() {
        let reach = Reach::default();
        assert!(reach.list().is_empty() && reach.paces().is_empty());
        assert_eq!(reach.forget("them.example"), 0);
    }
}
