//! What the status says about a partner that cannot be reached: for administrators, so with hosts
//! and addresses.

use gatehouse_identity::{ChainFault, IdentityError};
use gatehouse_resolve::ResolveError;
use gatehouse_telemetry::AttemptReport;
use gatehouse_types::Chain;
use gatehouse_xmpp::StreamCondition;
use gatehouse_xmpp::stream::CloseReason;

use super::failure::{AttemptError, DialFailure, Stage};

/// Targets of one attempt that are kept; a domain may have a hundred, and thousands of domains may
/// be dead.
const TARGETS_MAX: usize = 8;
/// Longest text of one target or reason, in characters: part of it may come from the peer.
const TEXT_CHARS_MAX: usize = 300;

impl DialFailure {
    /// All of it, bounded, without a character that could play with a terminal.
    pub(super) fn report(&self) -> AttemptReport {
        let (stage, fault) = self.stage_and_fault();
        let (reason, targets): (String, Vec<String>) = match self {
            Self::Resolve(error) => (error.to_string(), Vec::new()),
            Self::Targets { failed } | Self::OutOfTime { failed, .. } => {
                let decisive = decisive(failed.iter().map(|failed| &failed.error));
                let mut reason = decisive.map(|error| Chain(error).to_string());
                if let Self::OutOfTime { .. } = self {
                    let before = reason.map(|reason| format!("; before that: {reason}"));
                    reason = Some(format!("{self}{}", before.unwrap_or_default()));
                }
                let targets = failed.iter().map(ToString::to_string).collect();
                (reason.unwrap_or_else(|| self.to_string()), targets)
            }
            Self::Private { targets } => {
                let targets = targets.iter().map(|(host, address)| format!("{host} at {address}"));
                (self.to_string(), targets.collect())
            }
            Self::Unsteady { .. } => (self.to_string(), Vec::new()),
        };
        AttemptReport {
            stage: stage.to_owned(),
            reason: safe(&reason),
            fault: fault.to_owned(),
            targets_left_out: targets.len().saturating_sub(TARGETS_MAX),
            targets: targets.iter().take(TARGETS_MAX).map(|target| safe(target)).collect(),
        }
    }

    /// Each from a closed set.
    fn stage_and_fault(&self) -> (&'static str, &'static str) {
        match self {
            Self::Resolve(ResolveError::Failed { .. }) => ("dns", "dns"),
            Self::Resolve(ResolveError::NoRoute(_)) => ("dns", "us"),
            Self::Resolve(_) => ("dns", "peer"),
            Self::Private { .. } => ("dns", "peer-or-us"),
            Self::Targets { failed } | Self::OutOfTime { failed, .. } => {
                decisive(failed.iter().map(|failed| &failed.error))
                    .map_or(("tcp", "network"), AttemptError::stage_and_fault)
            }
            Self::Unsteady { .. } => ("open", "peer"),
        }
    }
}

impl AttemptError {
    fn stage_and_fault(&self) -> (&'static str, &'static str) {
        match self {
            Self::Connect(_) => ("tcp", "network"),
            Self::Silent { stage, .. } => (
                match stage {
                    Stage::Connect => "tcp",
                    Stage::Tls => "tls",
                    Stage::Stream => "stream",
                },
                "network",
            ),
            Self::Dane { .. } => ("dns", "dns"),
            Self::Tls(_) => ("tls", "peer"),
            Self::Broken(_) => ("stream", "network"),
            // Only both sides together can tell which key is the right one.
            Self::Certificate(IdentityError::Untrusted(ChainFault::NotPinned { .. })) => {
                ("certificate", "peer-or-us")
            }
            Self::Certificate(_) => ("certificate", "peer"),
            Self::Closed(reason) => ("stream", closed_by(reason)),
        }
    }
}

fn closed_by(reason: &CloseReason) -> &'static str {
    match reason {
        // Its policy, or our certificate.
        CloseReason::PeerRefused(error)
            if matches!(
                error.condition,
                StreamCondition::NotAuthorized | StreamCondition::PolicyViolation
            ) =>
        {
            "peer-or-us"
        }
        CloseReason::NoAgreement(_) => "peer-or-us",
        CloseReason::PeerRefused(_) | CloseReason::WeRefused(_) | CloseReason::PeerClosed => "peer",
        CloseReason::Disconnected | CloseReason::Idle | CloseReason::SetupTimeout => "network",
        CloseReason::Shutdown => "us",
    }
}

/// Of several targets, the one that says most.
fn decisive<'a>(errors: impl Iterator<Item = &'a AttemptError>) -> Option<&'a AttemptError> {
    errors.max_by_key(|error| error.weight())
}

fn safe(text: &str) -> String {
    text.chars()
        .map(
            |c| if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}') { '\u{fffd}' } else { c },
        )
        .take(TEXT_CHARS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use gatehouse_resolve::{Host, Transport};
    use gatehouse_xmpp::StreamError;

    use super::*;
    use crate::outbound::failure::FailedTarget;
    use crate::outbound::target::Target;

    fn failed(error: AttemptError) -> FailedTarget {
        let target = Target {
            host: Host::Name("x.them.example".parse().unwrap()),
            address: "192.0.2.7:5269".parse().unwrap(),
            transport: Transport::DirectTls,
        };
        FailedTarget { target, error }
    }

    fn refused() -> AttemptError {
        AttemptError::Connect(io::ErrorKind::ConnectionRefused.into())
    }

    #[test]
    fn every_failure_has_its_stage_and_its_fault() {
        let timeout = Duration::from_secs(1);
        let closed = |condition: StreamCondition| {
            AttemptError::Closed(CloseReason::PeerRefused(StreamError::from(condition)))
        };
        for (error, want) in [
            (refused(), ("tcp", "network")),
            (AttemptError::Silent { stage: Stage::Tls, timeout }, ("tls", "network")),
            (AttemptError::Tls(io::ErrorKind::InvalidData.into()), ("tls", "peer")),
            (
                AttemptError::Certificate(IdentityError::Untrusted(ChainFault::Expired)),
                ("certificate", "peer"),
            ),
            (closed(StreamCondition::NotAuthorized), ("stream", "peer-or-us")),
            (closed(StreamCondition::HostUnknown), ("stream", "peer")),
            (AttemptError::Closed(CloseReason::SetupTimeout), ("stream", "network")),
        ] {
            let report = DialFailure::Targets { failed: vec![failed(error)] }.report();
            assert_eq!((report.stage.as_str(), report.fault.as_str()), want, "{report:?}");
            assert!(
                report.targets[0].starts_with("x.them.example at 192.0.2.7:5269 by direct TLS")
            );
        }
        for (error, want) in [
            (ResolveError::NotFound("a.example".parse().unwrap()), ("dns", "peer")),
            (ResolveError::NoRoute("a.example".parse().unwrap()), ("dns", "us")),
        ] {
            let report = DialFailure::Resolve(error).report();
            assert_eq!((report.stage.as_str(), report.fault.as_str()), want, "{report:?}");
        }
    }

    #[test]
    fn the_target_that_came_furthest_gives_the_reason() {
        let expired = AttemptError::Certificate(IdentityError::Untrusted(ChainFault::Expired));
        let failed = vec![failed(expired), failed(refused())];
        let timeout = Duration::from_secs(30);
        let report = DialFailure::OutOfTime { failed, timeout }.report();
        assert_eq!(
            report.reason,
            "out of time after 30 s; before that: certificate refused: the certificate has expired"
        );
        assert_eq!((report.stage.as_str(), report.targets.len()), ("certificate", 2));
    }

    #[test]
    fn a_report_is_bounded_and_safe_to_print() {
        let text = format!("\u{1b}[2J{}", "x".repeat(10_000));
        let error = || {
            let error = StreamError::new(StreamCondition::UndefinedCondition, text.clone());
            failed(AttemptError::Closed(CloseReason::PeerRefused(error)))
        };
        let report = DialFailure::Targets { failed: (0..100).map(|_| error()).collect() }.report();
        assert_eq!((report.targets.len(), report.targets_left_out), (TARGETS_MAX, 92));
        for text in report.targets.iter().chain([&report.reason]) {
            assert!(text.chars().count() <= TEXT_CHARS_MAX && !text.contains('\u{1b}'), "{text:?}");
        }
    }
}
