//! Header fields: raw and in order, and those that have a type.

mod name;
mod typed;
mod via;

use std::borrow::Cow;

use bytes::Bytes;

pub use self::name::HeaderName;
pub use self::typed::{CSeq, ContentType, Event, SubscriptionState, Warning};
pub use self::via::Via;
use crate::InvalidMessage;
use crate::grammar::{breaks_lines, is_token, split_outside, trim};

/// One header field: a name and the bytes of its value, unfolded and trimmed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// The name.
    pub name: HeaderName,
    /// The value; never CR, LF or NUL in it. May not be UTF-8.
    pub value: Bytes,
}

impl Header {
    /// The value as text, with bytes that are not UTF-8 replaced.
    fn text(&self) -> Cow<'_, str> {
        // Nearly all is UTF-8, and that is told much faster than where it is not.
        match str::from_utf8(&self.value) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(&self.value),
        }
    }

    fn checked(name: HeaderName, value: String) -> Result<Self, InvalidMessage> {
        if value.bytes().any(breaks_lines) {
            return Err(InvalidMessage::new("a header", "its value would break the line"));
        }
        if matches!(&name, HeaderName::Other(name) if !is_token(name)) {
            return Err(InvalidMessage::new("a header", "its name is no token"));
        }
        Ok(Self { name, value: Bytes::from(trim(&value).to_owned()) })
    }
}

/// Header fields in the order they came in.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Headers(Vec<Header>);

impl Headers {
    /// The first value of this name, with bytes that are not UTF-8 replaced.
    pub fn get(&self, name: &HeaderName) -> Option<Cow<'_, str>> {
        self.get_all(name).next()
    }

    /// Every value of this name, one per field line, in order. For headers that hold lists see
    /// [`list`](Self::list).
    pub fn get_all(&self, name: &HeaderName) -> impl Iterator<Item = Cow<'_, str>> {
        self.0.iter().filter(move |header| header.name == *name).map(Header::text)
    }

    /// Every element of the comma-separated lists of this name, over all its lines, in order;
    /// quotes and angle brackets are respected.
    pub fn list(&self, name: &HeaderName) -> Vec<String> {
        let elements = |line: Cow<'_, str>| {
            split_outside(&line, b',').map(|element| trim(element).to_owned()).collect::<Vec<_>>()
        };
        self.get_all(name).flat_map(elements).collect()
    }

    /// The first element of the list of this name, as [`list`](Self::list) would give it.
    pub fn first(&self, name: &HeaderName) -> Option<String> {
        let line = self.get(name)?;
        split_outside(&line, b',').next().map(|element| trim(element).to_owned())
    }

    /// Appends a line.
    ///
    /// # Errors
    /// If the value holds CR, LF or NUL: a header is never a way to write another one.
    pub fn push(
        &mut self,
        name: HeaderName,
        value: impl Into<String>,
    ) -> Result<(), InvalidMessage> {
        self.0.push(Header::checked(name, value.into())?);
        Ok(())
    }

    /// Puts a line before the first of its name (Via, Record-Route), or appends.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_first(
        &mut self,
        name: HeaderName,
        value: impl Into<String>,
    ) -> Result<(), InvalidMessage> {
        let header = Header::checked(name, value.into())?;
        let first = self.0.iter().position(|other| other.name == header.name);
        self.0.insert(first.unwrap_or(self.0.len()), header);
        Ok(())
    }

    /// Replaces all lines of this name by one.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn set(
        &mut self,
        name: HeaderName,
        value: impl Into<String>,
    ) -> Result<(), InvalidMessage> {
        let header = Header::checked(name, value.into())?;
        match self.0.iter().position(|other| other.name == header.name) {
            None => self.0.push(header),
            Some(first) => {
                let mut at = 0;
                let name = header.name.clone();
                if let Some(place) = self.0.get_mut(first) {
                    *place = header;
                }
                self.0.retain(|other| {
                    at += 1;
                    other.name != name || at == first + 1
                });
            }
        }
        Ok(())
    }

    /// Takes out all lines of this name.
    pub fn remove(&mut self, name: &HeaderName) {
        self.0.retain(|header| header.name != *name);
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there is no line.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many lines have this name.
    pub fn count(&self, name: &HeaderName) -> usize {
        self.0.iter().filter(|header| header.name == *name).count()
    }

    /// Appends a line as the framer read it. It holds nothing that breaks lines.
    pub(crate) fn push_read(&mut self, name: HeaderName, value: Bytes) {
        debug_assert!(!value.iter().copied().any(breaks_lines));
        self.0.push(Header { name, value });
    }

    /// Copies every line of this name from another message, byte for byte.
    pub(crate) fn copy(&mut self, from: &Self, name: &HeaderName) {
        self.0.extend(from.0.iter().filter(|header| header.name == *name).cloned());
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &Header> {
        self.0.iter()
    }

    /// Keeps what `keep` says.
    pub fn retain(&mut self, keep: impl FnMut(&Header) -> bool) {
        self.0.retain(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers() -> Headers {
        let mut headers = Headers::default();
        headers.push(HeaderName::Subject, "x").unwrap();
        headers.push(HeaderName::Via, "a, \"b,c\" <d,e>").unwrap();
        headers.push(HeaderName::To, "t").unwrap();
        headers.push(HeaderName::Via, "f").unwrap();
        headers
    }

    fn written(headers: &Headers) -> Vec<String> {
        let line =
            |h: &Header| format!("{}:{}", h.name.as_str(), String::from_utf8_lossy(&h.value));
        headers.iter().map(line).collect()
    }

    #[test]
    fn lists_are_split_over_all_lines_and_not_inside_quotes() {
        assert_eq!(headers().list(&HeaderName::Via), ["a", "\"b,c\" <d,e>", "f"]);
        assert_eq!(headers().get(&HeaderName::Via).unwrap(), "a, \"b,c\" <d,e>");
        assert_eq!(headers().count(&HeaderName::Via), 2);
        assert_eq!(headers().first(&HeaderName::Via).as_deref(), Some("a"));
        assert_eq!(headers().first(&HeaderName::Route), None);
    }

    #[test]
    fn lines_go_where_they_belong() {
        let mut all = headers();
        all.push_first(HeaderName::Via, "top").unwrap();
        assert_eq!(written(&all)[1], "Via:top");
        all.set(HeaderName::Via, "only").unwrap();
        assert_eq!(written(&all), ["Subject:x", "Via:only", "To:t"]);
        all.set(HeaderName::From, "f").unwrap();
        all.remove(&HeaderName::Subject);
        assert_eq!(written(&all), ["Via:only", "To:t", "From:f"]);
    }

    #[test]
    fn a_header_is_no_way_to_write_another_one() {
        let mut all = Headers::default();
        for value in ["a\r\nVia: x", "a\nb", "a\rb", "a\0b"] {
            assert!(all.push(HeaderName::Subject, value).is_err());
            assert!(all.push_first(HeaderName::Subject, value).is_err());
            assert!(all.set(HeaderName::Subject, value).is_err());
        }
        assert!(all.push(HeaderName::Other("A: b\r\nC".into()), "x").is_err());
        assert!(all.is_empty());
    }
}
