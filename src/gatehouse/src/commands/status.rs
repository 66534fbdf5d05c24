use std::thread;
use std::time::Duration;

use gatehouse_telemetry::{Status, StreamState};

use super::Failure;
use crate::cli::Place;
use crate::display::{clear_screen, say, table};
use crate::setup::Setup;

/// Shows the live streams of the running appliance.
pub(super) fn status(place: &Place, json: bool, watch: bool) -> Result<(), Failure> {
    let setup = Setup::read(place)?;
    let url = format!("http://{}/status", setup.settings.listen.admin);
    loop {
        let text = fetch(&url)?;
        if json {
            say(text);
            return Ok(());
        }
        let streams: Vec<Status> = serde_json::from_str(&text).map_err(|error| {
            Failure::new(format!("{url} does not answer like a Gatehouse: {error}"))
        })?;
        if watch {
            clear_screen();
        }
        say(render(&streams));
        if !watch {
            return Ok(());
        }
        thread::sleep(Duration::from_secs(2));
    }
}

fn fetch(url: &str) -> Result<String, Failure> {
    let read = || ureq::get(url).call()?.body_mut().read_to_string();
    read().map_err(|error| {
        Failure::new(format!(
            "no Gatehouse answers at {url} ({error}): start it with `gatehouse run`, or name its settings with --config"
        ))
    })
}

fn render(streams: &[Status]) -> String {
    if streams.is_empty() {
        return "No live streams.".to_owned();
    }
    let head =
        ["KIND", "LOCAL", "PEER", "ADDRESS", "TLS", "AUTHENTICATION", "STATE", "IN", "OUT", "ID"];
    let rows = streams.iter().map(|stream| {
        let state = match stream.info.state {
            StreamState::Opening => "opening",
            StreamState::Open => "open",
        };
        let short: String = stream.info.id.chars().take(8).collect();
        [
            stream.info.kind.as_str().to_owned(),
            stream.info.local.clone(),
            stream.info.peer.clone(),
            stream.info.address.clone(),
            stream.info.tls.clone(),
            stream.info.authentication.clone(),
            state.to_owned(),
            stream.stanzas_in.to_string(),
            stream.stanzas_out.to_string(),
            short,
        ]
    });
    table(head, rows)
}
