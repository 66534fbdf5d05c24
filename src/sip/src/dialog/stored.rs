//! A dialog for the store: a version byte, then each field, texts with four bytes of length.

use super::{Dialog, DialogId, ROUTES_MAX};
use crate::{NameAddr, Uri};

const VERSION: u8 = 1;
/// The longest stored form that is looked at.
const BYTES_MAX: usize = 64 * 1024;

/// A stored dialog that cannot be read back: another version, or damaged.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a stored dialog of this version")]
pub struct InvalidStored;

impl Dialog {
    /// For the store. Stable: [`from_bytes`](Self::from_bytes) of later versions reads it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new(VERSION);
        out.text(&self.id.call_id);
        out.text(&self.id.local_tag);
        out.text(&self.id.remote_tag);
        out.text(&self.local.to_string());
        out.text(&self.remote.to_string());
        out.number(self.local_cseq.into());
        out.optional(self.remote_cseq.map(u64::from));
        out.optional(self.invite_cseq.map(u64::from));
        out.number(u64::from(self.early));
        out.text(&self.remote_target.to_string());
        out.number(self.route_set.len() as u64);
        for route in &self.route_set {
            out.text(&route.to_string());
        }
        out.done()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// Another version, damaged bytes, or more than 64 KiB.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidStored> {
        let mut input = Reader::new(bytes, VERSION)?;
        let id = DialogId {
            call_id: input.text()?,
            local_tag: input.text()?,
            remote_tag: input.text()?,
        };
        let (local, remote) = (input.address()?, input.address()?);
        let local_cseq = input.small()?;
        let (remote_cseq, invite_cseq) = (input.optional_small()?, input.optional_small()?);
        let early = match input.number()? {
            0 => false,
            1 => true,
            _ => return Err(InvalidStored),
        };
        let remote_target = input.uri()?;
        let count = input.number()?;
        if count > ROUTES_MAX as u64 {
            return Err(InvalidStored);
        }
        let route_set = (0..count).map(|_| input.address()).collect::<Result<_, _>>()?;
        input.end()?;
        Ok(Self {
            id,
            local,
            remote,
            local_cseq,
            remote_cseq,
            remote_target,
            route_set,
            invite_cseq,
            early,
        })
    }
}

/// Writes fields.
struct Writer(Vec<u8>);

impl Writer {
    fn new(version: u8) -> Self {
        Self(vec![version])
    }

    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn optional(&mut self, number: Option<u64>) {
        // No number that is stored is the highest there is.
        self.number(number.unwrap_or(u64::MAX));
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    fn done(self) -> Vec<u8> {
        self.0
    }
}

/// Reads fields; anything unexpected is an error.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8], version: u8) -> Result<Self, InvalidStored> {
        match bytes.split_first() {
            Some((first, rest)) if *first == version && bytes.len() <= BYTES_MAX => Ok(Self(rest)),
            _ => Err(InvalidStored),
        }
    }

    fn number(&mut self) -> Result<u64, InvalidStored> {
        let (number, rest) = self.0.split_first_chunk::<8>().ok_or(InvalidStored)?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*number))
    }

    fn optional(&mut self) -> Result<Option<u64>, InvalidStored> {
        Ok(Some(self.number()?).filter(|number| *number != u64::MAX))
    }

    fn small(&mut self) -> Result<u32, InvalidStored> {
        u32::try_from(self.number()?).map_err(|_| InvalidStored)
    }

    fn optional_small(&mut self) -> Result<Option<u32>, InvalidStored> {
        self.optional()?.map(|number| u32::try_from(number).map_err(|_| InvalidStored)).transpose()
    }

    fn bytes(&mut self) -> Result<&'a [u8], InvalidStored> {
        let (length, rest) = self.0.split_first_chunk::<4>().ok_or(InvalidStored)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| InvalidStored)?;
        let (bytes, rest) = rest.split_at_checked(length).ok_or(InvalidStored)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<String, InvalidStored> {
        std::str::from_utf8(self.bytes()?).map(str::to_owned).map_err(|_| InvalidStored)
    }

    fn address(&mut self) -> Result<NameAddr, InvalidStored> {
        NameAddr::parse(&self.text()?).map_err(|_| InvalidStored)
    }

    fn uri(&mut self) -> Result<Uri, InvalidStored> {
        Uri::parse(&self.text()?).map_err(|_| InvalidStored)
    }

    fn end(&self) -> Result<(), InvalidStored> {
        if self.0.is_empty() { Ok(()) } else { Err(InvalidStored) }
    }
}
