use std::fmt::Write as _;

use gatehouse_telemetry::{Forget, Forgotten, Paced, Unreached};
use gatehouse_types::Domain;
use serde_json::json;

use super::Failure;
use super::admin::Admin;
use crate::cli::ReachCommand;
use crate::display::{say, table};
use crate::setup::Setup;

/// Which partners cannot be reached, and having them dialled again.
pub(super) fn reach(command: ReachCommand) -> Result<(), Failure> {
    match command {
        ReachCommand::Show { partner, place, json } => {
            show(&Setup::read(&place)?, partner.as_ref(), json)
        }
        ReachCommand::Forget { partner, place } => forget(&Setup::read(&place)?, &partner),
    }
}

fn show(setup: &Setup, partner: Option<&Domain>, json: bool) -> Result<(), Failure> {
    let is_meant = |peer: &str| partner.is_none_or(|partner| peer == partner.as_str());
    let mut unreached = list(setup)?;
    unreached.retain(|one| is_meant(&one.peer));
    let paced = Admin::of(setup).get("/pace")?;
    let mut paced: Vec<Paced> =
        serde_json::from_value(paced).map_err(|error| Failure::from(&error))?;
    paced.retain(|one| is_meant(&one.peer));
    if json {
        let all = json!({ "unreached": unreached, "paced": paced });
        let text = serde_json::to_string_pretty(&all).map_err(|error| Failure::from(&error))?;
        say(text);
    } else {
        say(text(partner, &unreached, &paced));
    }
    Ok(())
}

/// What failed, and for whom something waits; of one partner, its pace as well.
fn text(partner: Option<&Domain>, unreached: &[Unreached], paced: &[Paced]) -> String {
    let mut parts: Vec<String> = unreached.iter().map(details).collect();
    if parts.is_empty() {
        parts.push(match partner {
            Some(partner) => format!("No attempt to reach {partner} has failed lately."),
            None => "No attempt to reach a partner has failed lately.".to_owned(),
        });
    }
    let shown = paced.iter().filter(|one| one.waiting > 0 || partner.is_some());
    parts.extend(shown.map(pace));
    parts.join("\n\n")
}

/// `send-per-second` at work.
fn pace(one: &Paced) -> String {
    let Paced { peer, per_second, waiting, waiting_secs, clear_in_secs } = one;
    let waits = match waiting {
        0 => "nothing waits".to_owned(),
        1 => format!("1 request waits, gone in {clear_in_secs} s"),
        _ => format!("{waiting} requests wait, the last one gone in {clear_in_secs} s"),
    };
    let since = match waiting {
        0 => String::new(),
        _ => format!("; so for {waiting_secs} s"),
    };
    format!(
        "{peer}, over SIP:\n  pace      this edge sends it at most {per_second:.1} requests a second \
         (send-per-second)\n  waiting   {waits}{since}"
    )
}

fn forget(setup: &Setup, partner: &Domain) -> Result<(), Failure> {
    let body = Forget { peer: partner.to_string() };
    let Forgotten { forgotten } = Admin::of(setup).post("/reach/forget", &body)?;
    say(if forgotten == 0 {
        format!("Nothing was held against {partner}; what DNS said is asked again.")
    } else {
        format!("Forgotten: the next message dials {partner}, and DNS is asked again.")
    });
    Ok(())
}

/// What the running appliance could not reach.
pub(super) fn list(setup: &Setup) -> Result<Vec<Unreached>, Failure> {
    let value = Admin::of(setup).get("/reach")?;
    serde_json::from_value(value).map_err(|error| Failure::from(&error))
}

/// One line for each, for the status.
pub(super) fn overview(all: &[Unreached]) -> String {
    let head = ["NOT REACHED", "FROM", "STAGE", "FAULT", "FAILED", "TIMES", "NEXT TRY", "REASON"];
    let rows = all.iter().map(|one| {
        [
            one.peer.clone(),
            one.local.clone(),
            one.attempt.stage.clone(),
            one.attempt.fault.clone(),
            format!("{} s ago", one.failed_secs_ago),
            one.failures.to_string(),
            next_try(one),
            one.attempt.reason.clone(),
        ]
    });
    table(head, rows)
}

fn next_try(one: &Unreached) -> String {
    match one.next_try_secs {
        0 => "next message".to_owned(),
        secs => format!("in {secs} s"),
    }
}

fn details(one: &Unreached) -> String {
    let Unreached { local, peer, failed_secs_ago, failures, attempt, told, .. } = one;
    let mut text = format!("{peer}, from {local}:");
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {name:<10}{value}");
    };
    line("failed", &format!("{failed_secs_ago} s ago, {failures} times in a row"));
    line("next try", &next_try(one));
    line("stage", &attempt.stage);
    line("reason", &attempt.reason);
    line("fault", &attempt.fault);
    line("told", told);
    for target in &attempt.targets {
        line("tried", target);
    }
    if attempt.targets_left_out > 0 {
        line("tried", &format!("and {} more", attempt.targets_left_out));
    }
    text
}

#[cfg(test)]
mod tests {
    use gatehouse_telemetry::AttemptReport;

    use super::*;

    #[test]
    fn the_pace_is_shown_of_those_who_wait_and_of_whom_is_asked_for() {
        let quiet = Paced {
            peer: "quiet.example".into(),
            per_second: 4.5,
            waiting: 0,
            waiting_secs: 0,
            clear_in_secs: 0,
        };
        let slow = Paced {
            peer: "slow.example".into(),
            waiting: 40,
            waiting_secs: 3,
            clear_in_secs: 5,
            ..quiet.clone()
        };
        assert_eq!(
            text(None, &[], &[quiet.clone(), slow]),
            "No attempt to reach a partner has failed lately.

slow.example, over SIP:
  pace      this edge sends it at most 4.5 requests a second (send-per-second)
  waiting   40 requests wait, the last one gone in 5 s; so for 3 s"
        );
        let partner = "quiet.example".parse().unwrap();
        assert!(text(Some(&partner), &[], &[quiet]).ends_with("waiting   nothing waits"));
    }

    #[test]
    fn a_partner_is_shown_with_all_that_is_known() {
        let one = Unreached {
            local: "ours.example".into(),
            peer: "them.example".into(),
            failed_secs_ago: 3,
            failures: 2,
            next_try_secs: 7,
            attempt: AttemptReport {
                stage: "tcp".into(),
                reason: "TCP connection failed".into(),
                fault: "network".into(),
                targets: vec!["x.them.example at 192.0.2.7:5269".into()],
                targets_left_out: 4,
            },
            told: "try again later".into(),
        };
        assert_eq!(
            details(&one),
            "them.example, from ours.example:
  failed    3 s ago, 2 times in a row
  next try  in 7 s
  stage     tcp
  reason    TCP connection failed
  fault     network
  told      try again later
  tried     x.them.example at 192.0.2.7:5269
  tried     and 4 more"
        );
        let due = Unreached { next_try_secs: 0, ..one };
        assert!(overview(&[due]).contains("next message"));
    }
}
