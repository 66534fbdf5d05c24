//! The time of day, for delay stamps (XEP-0203).

use std::fmt;
use std::sync::Arc;

use gatehouse_types::Domain;
use gatehouse_xmpp::parsers::minidom::rxml::xml_ncname;
use gatehouse_xmpp::{Element, ns};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::xml;

/// Tells the time in Unix milliseconds; a test passes its own.
#[derive(Clone)]
pub(crate) struct WallClock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl WallClock {
    /// A clock of one's own.
    pub(crate) fn new(tell: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// The machine's clock.
    pub(crate) fn system() -> Self {
        Self::new(|| {
            let now = OffsetDateTime::now_utc();
            i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
        })
    }

    /// Unix milliseconds.
    pub(crate) fn now_ms(&self) -> i64 {
        (self.0)()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}

/// Unix milliseconds as XEP-0082 writes them; `None` for a time that no calendar has.
pub(crate) fn text(unix_ms: i64) -> Option<String> {
    let nanos = i128::from(unix_ms) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?;
    // XEP-0082, section 3.2.
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    time.format(format).ok()
}

/// The stamp of a message that `domain` kept since `received_ms`; `None` for a time that no
/// calendar has.
pub(crate) fn delay(domain: &Domain, received_ms: i64) -> Option<Element> {
    let mut delay = xml::text("delay", ns::DELAY, "Offline storage");
    xml::set(&mut delay, xml_ncname!("from"), domain.to_unicode());
    xml::set(&mut delay, xml_ncname!("stamp"), text(received_ms)?);
    Some(delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamp_is_utc_with_milliseconds() {
        let delay = delay(&"ours.example".parse().unwrap(), 1_700_000_000_123).unwrap();
        assert_eq!(delay.attr("stamp"), Some("2023-11-14T22:13:20.123Z"));
        assert_eq!(delay.attr("from"), Some("ours.example"));
    }
}
