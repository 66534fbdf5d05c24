use std::thread;
use std::time::Duration;

use gatehouse_telemetry::{Status, StreamState, Unreached};
use serde_json::json;

use super::Failure;
use super::admin::Admin;
use super::reach;
use crate::cli::Place;
use crate::display::{clear_screen, say, table};
use crate::setup::Setup;

/// Shows the live streams of the running appliance, and which partners it could not reach.
pub(super) fn status(place: &Place, json: bool, watch: bool) -> Result<(), Failure> {
    let setup = Setup::read(place)?;
    loop {
        let streams = Admin::of(&setup).get("/status")?;
        let unreached = reach::list(&setup)?;
        if json {
            say(json!({ "streams": streams, "unreached": unreached }).to_string());
            return Ok(());
        }
        let streams: Vec<Status> =
            serde_json::from_value(streams).map_err(|error| Failure::from(&error))?;
        if watch {
            clear_screen();
        }
        say(render(&streams, &unreached));
        if !watch {
            return Ok(());
        }
        thread::sleep(Duration::from_secs(2));
    }
}

fn render(streams: &[Status], unreached: &[Unreached]) -> String {
    let mut text = if streams.is_empty() { "No live streams.".to_owned() } else { live(streams) };
    if !unreached.is_empty() {
        text.push_str("\n\n");
        text.push_str(&reach::overview(unreached));
    }
    text
}

fn live(streams: &[Status]) -> String {
    let head = [
        "KIND",
        "LOCAL",
        "PEER",
        "ADDRESS",
        "TLS",
        "AUTHENTICATION",
        "STATE",
        "AGE",
        "IN",
        "OUT",
        "BYTES IN",
        "BYTES OUT",
        "ID",
        "LAST ERROR",
    ];
    let rows = streams.iter().map(|stream| {
        let state = match stream.info.state {
            StreamState::Opening => "opening",
            StreamState::Open => "open",
            StreamState::Away => "away",
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
            age(stream.age_secs),
            stream.stanzas_in.to_string(),
            stream.stanzas_out.to_string(),
            bytes(stream.bytes_in),
            bytes(stream.bytes_out),
            short,
            stream.last_error.clone(),
        ]
    });
    table(head, rows)
}

/// Short, as a column has room.
fn age(secs: u64) -> String {
    match secs {
        0..120 => format!("{secs} s"),
        120..7200 => format!("{} min", secs / 60),
        7200..172_800 => format!("{} h", secs / 3600),
        _ => format!("{} d", secs / 86_400),
    }
}

/// Nothing where nobody counts.
fn bytes(count: u64) -> String {
    match count {
        0 => "-".to_owned(),
        1..10_240 => count.to_string(),
        10_240..10_485_760 => format!("{} KiB", count / 1024),
        _ => format!("{} MiB", count / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_a_column() {
        let ages: Vec<String> = [0, 119, 120, 7199, 7200, 200_000].map(age).into();
        assert_eq!(ages, ["0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
        let sizes: Vec<String> = [0, 10_239, 10_240, 10_485_760].map(bytes).into();
        assert_eq!(sizes, ["-", "10239", "10 KiB", "10 MiB"]);
    }
}
