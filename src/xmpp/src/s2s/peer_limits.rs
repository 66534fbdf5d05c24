use std::time::Duration;

use minidom::Element;

use crate::ns;

/// What every server must take (RFC 6120, section 13.12); whoever says less is taken at this.
const BYTES_MIN: usize = 10_000;

/// A peer that wants us gone sooner must wait so long: each stream costs both sides a handshake.
const IDLE_MIN: Duration = Duration::from_secs(10);

/// What the peer says it takes (XEP-0478).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct PeerLimits {
    /// The longest stanza, in bytes.
    pub(super) bytes_max: Option<usize>,
    /// After how long a silence of ours it closes.
    idle_max: Option<Duration>,
}

impl PeerLimits {
    /// Reads stream features. What cannot be read was not said.
    pub(super) fn of(features: &Element) -> Self {
        let number = |name| -> Option<u64> {
            let limits = features.get_child("limits", ns::STREAM_LIMITS)?;
            limits.get_child(name, ns::STREAM_LIMITS)?.text().trim().parse().ok()
        };
        let bytes_max = number("max-bytes").and_then(|bytes| usize::try_from(bytes).ok());
        Self {
            bytes_max: bytes_max.map(|bytes| bytes.max(BYTES_MIN)),
            idle_max: number("idle-seconds")
                .filter(|seconds| *seconds > 0)
                .map(|seconds| Duration::from_secs(seconds).max(IDLE_MIN)),
        }
    }

    /// When to leave a stream on which nothing was sent: early enough that the next stanza does not
    /// meet the peer's farewell.
    pub(super) fn idle(&self, ours: Duration) -> Duration {
        self.idle_max.map_or(ours, |theirs| ours.min(theirs / 10 * 9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(limits: &str) -> PeerLimits {
        let text = format!(
            "<features xmlns='{}'><limits xmlns='urn:xmpp:stream-limits:0'>{limits}</limits></features>",
            ns::STREAM
        );
        PeerLimits::of(&text.parse().unwrap())
    }

    #[test]
    fn what_is_said_is_kept_to_within_reason() {
        let quarter = Duration::from_secs(900);
        for (text, bytes, idle) in [
            ("", None, 900),
            ("<max-bytes>262144</max-bytes><idle-seconds>100</idle-seconds>", Some(262_144), 90),
            ("<max-bytes>0</max-bytes><idle-seconds>1</idle-seconds>", Some(10_000), 9),
            ("<max-bytes>many</max-bytes><idle-seconds>0</idle-seconds>", None, 900),
            ("<max-bytes>-1</max-bytes><idle-seconds>99999</idle-seconds>", None, 900),
        ] {
            let limits = read(text);
            assert_eq!((limits.bytes_max, limits.idle(quarter).as_secs()), (bytes, idle), "{text}");
        }
    }
}
