//! Availability, both ways: RFC 8048 section 5 with Microsoft's words.

use gatehouse_sip::pidf::{Pidf, Tuple};

use crate::condition::plain;

/// How a busy SIP user looks to XMPP clients.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BusyAs {
    /// `<show>dnd</show>` (RFC 8048).
    #[default]
    Dnd,
    /// `<show>away</show>` with the status text "Busy", if the contact wrote none.
    AwayWithText,
}

/// The `show` of an XMPP presence; what none of these is, is no `show`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names are RFC 6121's")]
pub enum Show {
    Away,
    Chat,
    Dnd,
    Xa,
}

/// The presence of one device.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Availability {
    /// The XMPP resource; `None` for a device without a name (of a SIP user: the only one).
    pub resource: Option<Box<str>>,
    /// False: `unavailable`, `closed`.
    pub available: bool,
    /// `None` is plainly available.
    pub show: Option<Show>,
    /// Status text, or note.
    pub status: Option<Box<str>>,
    /// As in XMPP. SIP knows 0 to 1, in thousandths; negative ones are never carried over.
    pub priority: Option<i8>,
}

/// What Microsoft and SIPE read, and the status text that goes with it.
const BUSY: &str = "Busy";

impl Show {
    /// Reads the text of `<show/>`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "away" => Self::Away,
            "chat" => Self::Chat,
            "dnd" => Self::Dnd,
            "xa" => Self::Xa,
            _ => return None,
        })
    }

    /// The text of `<show/>`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Chat => "chat",
            Self::Dnd => "dnd",
            Self::Xa => "xa",
        }
    }
}

/// What an activity means: of RPID (RFC 4480), Microsoft's states, and what SIPE writes.
fn show_of_activity(activity: &str) -> Option<Show> {
    Some(match activity {
        "busy"
        | "busyidle"
        | "busy-idle"
        | "on-the-phone"
        | "on-phone"
        | "in-a-conference"
        | "in-a-meeting"
        | "meeting"
        | "appointment"
        | "presentation"
        | "in-presentation"
        | "do-not-disturb"
        | "donotdisturb"
        | "dnd"
        | "urgent-interruptions-only" => Show::Dnd,
        "away" | "idle" | "inactive" | "be-right-back" | "berightback" | "brb"
        | "out-of-office" | "out-to-lunch" | "meal" | "breakfast" | "dinner" | "steering"
        | "sleeping" | "off-work" | "permanent-absence" => Show::Away,
        "holiday" | "vacation" | "travel" => Show::Xa,
        _ => return None,
    })
}

/// Activities that say that the person is not there at all, whatever `<basic/>` says.
fn is_offline(activity: &str) -> bool {
    matches!(activity, "offline" | "appear-offline")
}

/// Reads a document: one availability for each tuple, at most `most`. A document without tuples
/// says that the person is not there.
pub fn from_pidf(document: &Pidf, busy_as: BusyAs, most: usize) -> Vec<Availability> {
    document.tuples.iter().take(most).map(|tuple| of_tuple(document, tuple, busy_as)).collect()
}

fn of_tuple(document: &Pidf, tuple: &Tuple, busy_as: BusyAs) -> Availability {
    let activities = || tuple.activities.iter().chain(&document.activities).map(String::as_str);
    // RFC 8048 section 5.2: the resource stands behind a prefix, since an id cannot begin with a digit.
    let resource = tuple.id.strip_prefix("ID-").filter(|rest| !rest.is_empty());
    let resource = resource.map(Into::into);
    let open = tuple.open == Some(true) && !activities().any(is_offline);
    if !open {
        return Availability { resource, ..Availability::default() };
    }
    let mut status = tuple.notes.iter().chain(&document.notes).map(|note| plain(note)).next();
    let mut show = tuple.show.as_deref().and_then(Show::parse);
    if show.is_none() {
        // The busiest word counts: "away" beside "on-the-phone" is a phone call.
        let shows = || activities().filter_map(show_of_activity);
        show = shows().find(|show| *show == Show::Dnd).or_else(|| shows().next());
    }
    if show == Some(Show::Dnd) && busy_as == BusyAs::AwayWithText {
        show = Some(Show::Away);
        status = Some(status.filter(|text| !text.is_empty()).unwrap_or_else(|| BUSY.to_owned()));
    }
    let priority = tuple.priority.map(|thousandths| {
        let scaled = (u32::from(thousandths.min(1000)) * 127 + 500) / 1000;
        i8::try_from(scaled).unwrap_or(i8::MAX)
    });
    let status = status.filter(|text| !text.is_empty()).map(Into::into);
    Availability { resource, available: true, show, status, priority }
}

/// How the devices of one person are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Compose {
    /// The most eager device only: what Lync shows of several tuples is its own affair.
    Best,
    /// One tuple for each device (RFC 8048).
    Each,
}

/// Writes a document of a person's devices. Nobody there is one closed tuple.
pub fn to_pidf(entity: &str, devices: &[Availability], compose: Compose) -> Pidf {
    let mut there: Vec<&Availability> =
        devices.iter().filter(|device| device.available && !is_negative(device)).collect();
    there
        .sort_by_key(|device| std::cmp::Reverse((device.priority.unwrap_or(0), rank(device.show))));
    if compose == Compose::Best {
        there.truncate(1);
    }
    let mut tuples: Vec<Tuple> = there.into_iter().map(to_tuple).collect();
    if tuples.is_empty() {
        tuples.push(Tuple { id: "ID-".to_owned() + "0", open: Some(false), ..Tuple::default() });
    }
    Pidf { entity: entity.to_owned(), tuples, ..Pidf::default() }
}

/// A negative priority asks for no messages; RFC 8048 section 5.2 forbids to map it.
fn is_negative(device: &Availability) -> bool {
    device.priority.is_some_and(|priority| priority < 0)
}

/// Which of two devices of the same priority speaks for the person.
fn rank(show: Option<Show>) -> u8 {
    match show {
        Some(Show::Chat) | None => 3,
        Some(Show::Dnd) => 2,
        Some(Show::Away) => 1,
        Some(Show::Xa) => 0,
    }
}

fn to_tuple(device: &Availability) -> Tuple {
    // What we write for a busy contact by `AwayWithText` comes back as busy.
    let says_busy = device.status.as_deref() == Some(BUSY);
    let activity = match device.show {
        Some(Show::Dnd) => Some("busy"),
        Some(Show::Away) if says_busy => Some("busy"),
        Some(Show::Away | Show::Xa) => Some("away"),
        Some(Show::Chat) | None => None,
    };
    let resource = device.resource.as_deref().unwrap_or("0");
    Tuple {
        id: format!("ID-{}", as_id(resource)),
        open: Some(true),
        activities: activity.map(str::to_owned).into_iter().collect(),
        show: device.show.map(|show| show.as_str().to_owned()),
        priority: device.priority.and_then(|priority| {
            let priority = u16::try_from(priority).ok()?;
            // RFC 8048: 1 is 0.007, 126 is 0.992; cut, not rounded.
            Some(u16::try_from(u32::from(priority) * 1000 / 127).unwrap_or(1000))
        }),
        notes: device.status.as_deref().map(str::to_owned).into_iter().collect(),
    }
}

/// An `xs:ID` holds no space and no colon; a resource may.
fn as_id(resource: &str) -> String {
    let fits = |sign: char| sign.is_alphanumeric() || matches!(sign, '-' | '_' | '.');
    resource.chars().map(|sign| if fits(sign) { sign } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lync(open: bool, activity: &str, busy_as: BusyAs) -> (bool, Option<Show>, Option<String>) {
        let activities = (!activity.is_empty()).then(|| activity.to_owned()).into_iter().collect();
        let tuple = Tuple { id: "0".to_owned(), open: Some(open), activities, ..Tuple::default() };
        let document = Pidf { tuples: vec![tuple], ..Pidf::default() };
        let read = from_pidf(&document, busy_as, 8);
        let read = read.first().unwrap();
        (read.available, read.show, read.status.as_deref().map(str::to_owned))
    }

    /// The federation tables, from Lync: state, what travels, third-party client (the switch at
    /// "away and text"), rich client (the switch at "dnd", which a rich client shows as Busy).
    #[test]
    fn from_lync() {
        let away = Some(Show::Away);
        let busy = Some(Show::Dnd);
        let text = Some("Busy".to_owned());
        for (state, open, activity, third_party, rich) in [
            ("Available", true, "", (true, None, None), (true, None, None)),
            ("Busy", true, "busy", (true, away, text.clone()), (true, busy, None)),
            ("In a call", true, "on-the-phone", (true, away, text.clone()), (true, busy, None)),
            ("Do Not Disturb", true, "do-not-disturb", (true, away, text), (true, busy, None)),
            ("Be Right Back", true, "be-right-back", (true, away, None), (true, away, None)),
            ("Inactive", true, "idle", (true, away, None), (true, away, None)),
            ("Away", true, "away", (true, away, None), (true, away, None)),
            ("Offline", false, "", (false, None, None), (false, None, None)),
            ("Appear offline", true, "offline", (false, None, None), (false, None, None)),
        ] {
            assert_eq!(lync(open, activity, BusyAs::AwayWithText), third_party, "{state}");
            assert_eq!(lync(open, activity, BusyAs::Dnd), rich, "{state}");
        }
    }

    fn to_lync(show: &str, status: Option<&str>, available: bool) -> (Option<bool>, String) {
        let device = Availability {
            available,
            show: Show::parse(show),
            status: status.map(Into::into),
            ..Availability::default()
        };
        let document = to_pidf("sip:a@b.example", &[device], Compose::Best);
        let tuple = document.tuples.first().unwrap();
        (tuple.open, tuple.activities.join(" "))
    }

    /// The federation tables, to Lync: state of our client, how it says so, what Lync reads.
    #[test]
    fn to_lync_table() {
        for (state, show, status, available, open, activity) in [
            // Our rich client.
            ("Available", "", None, true, true, ""),
            ("Busy", "away", Some("Busy"), true, true, "busy"),
            ("Do Not Disturb", "dnd", None, true, true, "busy"),
            ("Offline", "", None, false, false, ""),
            // A third-party XMPP client.
            ("Available", "chat", None, true, true, ""),
            ("Away", "away", None, true, true, "away"),
            ("Extended Away", "xa", None, true, true, "away"),
            ("Do Not Disturb", "dnd", Some("writing"), true, true, "busy"),
            ("Offline", "", Some("gone home"), false, false, ""),
        ] {
            assert_eq!(
                to_lync(show, status, available),
                (Some(open), activity.to_owned()),
                "{state}"
            );
        }
    }

    fn device(resource: &str, show: Option<Show>, priority: i8) -> Availability {
        Availability {
            resource: Some(resource.into()),
            available: true,
            show,
            status: None,
            priority: Some(priority),
        }
    }

    #[test]
    fn several_devices_are_several_tuples_or_the_best_one() {
        let devices = [
            device("phone", Some(Show::Away), 1),
            device("desk 1", None, 126),
            device("bot", None, -1),
        ];
        let each = to_pidf("sip:a@b.example", &devices, Compose::Each);
        let rows: Vec<_> =
            each.tuples.iter().map(|tuple| (tuple.id.as_str(), tuple.priority)).collect();
        assert_eq!(rows, [("ID-desk_1", Some(992)), ("ID-phone", Some(7))]);
        let best = to_pidf("sip:a@b.example", &devices, Compose::Best);
        assert_eq!(best.tuples, &each.tuples[..1]);
    }

    #[test]
    fn tuples_of_devices_come_back_as_resources() {
        let devices = [device("phone", Some(Show::Xa), 0), device("desk", None, 127)];
        let mut read = from_pidf(&to_pidf("", &devices, Compose::Each), BusyAs::Dnd, 8);
        read.reverse();
        assert_eq!(read, devices);
        assert_eq!(from_pidf(&to_pidf("", &devices, Compose::Each), BusyAs::Dnd, 1).len(), 1);
    }

    #[test]
    fn activities_of_the_person_and_notes_count_too() {
        let tuple =
            Tuple { open: Some(true), notes: vec!["in\u{7} town".into()], ..Tuple::default() };
        let document =
            Pidf { tuples: vec![tuple], activities: vec!["busy".into()], ..Pidf::default() };
        let read = &from_pidf(&document, BusyAs::AwayWithText, 8)[0];
        assert_eq!((read.show, read.status.as_deref()), (Some(Show::Away), Some("in town")));
        // Neither open nor closed is not there.
        let document = Pidf { tuples: vec![Tuple::default()], ..Pidf::default() };
        assert!(!from_pidf(&document, BusyAs::Dnd, 8)[0].available);
    }
}
