//! What outlives a restart: subscriptions, both ways.

use bytes::Bytes;
use gatehouse_sip::Dialog;

use crate::local::Pair;

/// The name of a record: text that is the same for the same subscription.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RecordKey(pub String);

/// One subscription, as its owner stores it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Its name.
    pub key: RecordKey,
    /// Its state; the first byte is the version of the form.
    pub value: Bytes,
}

/// Why a record cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("stored SIP subscription: {why}")]
pub struct InvalidRecord {
    /// What is wrong.
    pub why: &'static str,
}

/// What a record holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Stored {
    /// A local user watches a contact. `granted`: the contact said yes.
    Watch { pair: Pair, granted: bool, dialog: Option<Dialog> },
    /// A contact watches a local user. `granted`: the user said yes; `Some(false)`: no.
    Watched { pair: Pair, granted: Option<bool>, event_id: Option<String>, dialog: Dialog },
}

const VERSION: u8 = 1;
const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Requests that were sent after the record was written have used up numbers. Gaps are allowed
/// (RFC 3261 section 12.2.2), going back is not.
const CSEQ_STEP: u32 = 1 << 16;

impl Stored {
    /// The name under which it is stored.
    pub(crate) fn key(&self) -> RecordKey {
        RecordKey(match self {
            Self::Watch { pair, .. } => watch_key(pair),
            Self::Watched { dialog, .. } => watched_key(&dialog.id.local_tag),
        })
    }

    pub(crate) fn to_record(&self) -> Record {
        let mut out = Writer(vec![VERSION]);
        match self {
            Self::Watch { pair, granted, dialog } => {
                out.byte(b'w');
                out.pair(pair);
                out.byte(u8::from(*granted));
                out.byte(u8::from(dialog.is_some()));
                if let Some(dialog) = dialog {
                    out.dialog(dialog);
                }
            }
            Self::Watched { pair, granted, event_id, dialog } => {
                out.byte(b'n');
                out.pair(pair);
                out.byte(granted.map_or(2, u8::from));
                out.optional(event_id.as_deref());
                out.dialog(dialog);
            }
        }
        Record { key: self.key(), value: out.0.into() }
    }

    pub(crate) fn read(record: &Record) -> Result<Self, InvalidRecord> {
        let mut input = Reader(&record.value);
        if input.byte()? != VERSION {
            return Err(InvalidRecord { why: "written by another version" });
        }
        let kind = input.byte()?;
        let pair = input.pair()?;
        let stored = match kind {
            b'w' => {
                let granted = input.byte()? == 1;
                let dialog = if input.byte()? == 1 { Some(input.dialog()?) } else { None };
                Self::Watch { pair, granted, dialog }
            }
            b'n' => {
                let granted = match input.byte()? {
                    0 => Some(false),
                    1 => Some(true),
                    _ => None,
                };
                let event_id = input.optional()?;
                Self::Watched { pair, granted, event_id, dialog: input.dialog()? }
            }
            _ => return Err(InvalidRecord { why: "of an unknown kind" }),
        };
        if input.0.is_empty() { Ok(stored) } else { Err(InvalidRecord { why: "too long" }) }
    }
}

pub(crate) fn watch_key(pair: &Pair) -> String {
    format!("watch {} {}", pair.local, pair.remote)
}

pub(crate) fn watched_key(tag: &str) -> String {
    format!("watched {tag}")
}

struct Writer(Vec<u8>);

impl Writer {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn number(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        // What is longer than the reader takes was refused when it came in.
        self.number(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(text.as_bytes());
    }

    fn optional(&mut self, text: Option<&str>) {
        self.byte(u8::from(text.is_some()));
        if let Some(text) = text {
            self.text(text);
        }
    }

    fn pair(&mut self, pair: &Pair) {
        self.text(&pair.local.to_string());
        self.text(&pair.remote.to_string());
    }

    fn dialog(&mut self, dialog: &Dialog) {
        let bytes = dialog.to_bytes();
        self.number(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(&bytes);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    const SHORT: InvalidRecord = InvalidRecord { why: "too short" };
    const ADDRESS: InvalidRecord = InvalidRecord { why: "holds an address that cannot be read" };

    fn take(&mut self, len: usize) -> Result<&[u8], InvalidRecord> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Self::SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, InvalidRecord> {
        self.take(1)?.first().copied().ok_or(Self::SHORT)
    }

    fn number(&mut self) -> Result<u32, InvalidRecord> {
        let bytes = self.take(4)?.try_into().map_err(|_| Self::SHORT)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn text(&mut self) -> Result<String, InvalidRecord> {
        let len = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if len > TEXT_BYTES_MAX {
            return Err(InvalidRecord { why: "holds a text that is too long" });
        }
        let text = self.take(len)?.to_vec();
        String::from_utf8(text).map_err(|_| InvalidRecord { why: "holds what is no text" })
    }

    fn optional(&mut self) -> Result<Option<String>, InvalidRecord> {
        if self.byte()? == 1 { self.text().map(Some) } else { Ok(None) }
    }

    fn pair(&mut self) -> Result<Pair, InvalidRecord> {
        let local = self.text()?.parse().map_err(|_| Self::ADDRESS)?;
        let remote = self.text()?.parse().map_err(|_| Self::ADDRESS)?;
        Ok(Pair { local, remote })
    }

    fn dialog(&mut self) -> Result<Dialog, InvalidRecord> {
        let len = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let mut dialog = Dialog::from_bytes(self.take(len)?)
            .map_err(|_| InvalidRecord { why: "holds a dialog that cannot be read" })?;
        dialog.local_cseq = dialog.local_cseq.saturating_add(CSEQ_STEP);
        Ok(dialog)
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_sip::{DialogId, NameAddr, Uri};

    use super::*;

    fn samples() -> [Stored; 3] {
        let pair = Pair {
            local: "alice@ours.example".parse().unwrap(),
            remote: "bob@partner.example".parse().unwrap(),
        };
        let address = |text| NameAddr::parse(text).unwrap();
        let dialog = Dialog {
            id: DialogId {
                call_id: "c1".to_owned(),
                local_tag: "t1".to_owned(),
                remote_tag: "t2".to_owned(),
            },
            local: address("<sip:alice@ours.example>;tag=t1"),
            remote: address("\"Bob\" <sip:bob@partner.example>;tag=t2;epid=0f"),
            local_cseq: 7,
            remote_cseq: Some(3),
            remote_target: Uri::parse("sip:bob@partner.example;opaque=user:epid:x;gruu").unwrap(),
            route_set: vec![address("<sip:fe.partner.example:5061;lr;opaque=state:T>;tag=9")],
            invite_cseq: None,
            early: false,
        };
        [
            Stored::Watch { pair: pair.clone(), granted: true, dialog: Some(dialog.clone()) },
            Stored::Watch { pair: pair.clone(), granted: false, dialog: None },
            Stored::Watched { pair, granted: None, event_id: Some("e".to_owned()), dialog },
        ]
    }

    #[test]
    fn records_come_back_with_later_numbers() {
        for mut stored in samples() {
            let read = Stored::read(&stored.to_record()).unwrap();
            match &mut stored {
                Stored::Watch { dialog: Some(dialog), .. } | Stored::Watched { dialog, .. } => {
                    dialog.local_cseq += CSEQ_STEP;
                }
                Stored::Watch { dialog: None, .. } => {}
            }
            assert_eq!(read, stored);
        }
    }

    #[test]
    fn half_a_record_is_no_record() {
        for stored in samples() {
            let record = stored.to_record();
            for len in 0..record.value.len() {
                let half = Record { value: record.value.slice(..len), ..record.clone() };
                assert!(Stored::read(&half).is_err(), "{len} bytes");
            }
            let mut longer = record.value.to_vec();
            longer.push(0);
            assert!(Stored::read(&Record { value: longer.into(), ..record.clone() }).is_err());
            let mut other = record.value.to_vec();
            other[0] = 9;
            let other = Stored::read(&Record { value: other.into(), ..record });
            assert_eq!(other.unwrap_err().why, "written by another version");
        }
    }
}
