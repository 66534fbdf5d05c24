use std::fmt;

use crate::grammar::{
    is_token, is_token_byte, quoted, split_outside, trim, write_encoded, write_quoted,
};

/// More parameters than this in one place are no message but an attack.
const COUNT_MAX: usize = 64;

/// `;name=value` parameters in order; names compare without case. Values are kept unquoted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Params(Vec<Param>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Param {
    name: String,
    value: Option<String>,
    /// It stood in quotes, and is written in quotes: some peers compare the text.
    quoted: bool,
}

impl Params {
    /// The value of the first parameter of this name; `Some("")` if it stands without a value.
    pub fn get(&self, name: &str) -> Option<&str> {
        let param = self.0.iter().find(|param| param.name.eq_ignore_ascii_case(name))?;
        Some(param.value.as_deref().unwrap_or_default())
    }

    /// True if a parameter of this name stands there.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Replaces the first of this name, or appends.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        let value = value.map(str::to_owned);
        match self.0.iter_mut().find(|param| param.name.eq_ignore_ascii_case(name)) {
            Some(param) => (param.value, param.quoted) = (value, false),
            None => self.0.push(Param { name: name.to_owned(), value, quoted: false }),
        }
    }

    /// Takes all of this name out.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|param| !param.name.eq_ignore_ascii_case(name));
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|param| (param.name.as_str(), param.value.as_deref()))
    }

    /// Parses parameters of a header: nothing, or `;name=value` with white space anywhere between.
    /// RFC 3261, section 7.3.1: no name stands there twice.
    pub(crate) fn parse_header(text: &str) -> Result<Self, &'static str> {
        let text = trim(text);
        if text.is_empty() {
            return Ok(Self::default());
        }
        let list = text.strip_prefix(';').ok_or("something stands where parameters should")?;
        let mut params = Self::default();
        for param in split_outside(list, b';') {
            let (name, value) = match param.split_once('=') {
                Some((name, value)) => (trim(name), Some(trim(value))),
                None => (trim(param), None),
            };
            if !is_token(name) {
                return Err("a parameter has no name");
            }
            let (value, quoted) = match value {
                None => (None, false),
                Some(value) if value.starts_with('"') => {
                    let (said, rest) = quoted(value).ok_or("a quote is not closed")?;
                    if !trim(rest).is_empty() {
                        return Err("something follows a quoted parameter");
                    }
                    (Some(said), true)
                }
                Some(value) if !value.is_empty() && value.bytes().all(is_bare_byte) => {
                    (Some(value.to_owned()), false)
                }
                Some(_) => return Err("a parameter's value is no token"),
            };
            params.append(name, value, quoted)?;
        }
        Ok(params)
    }

    /// Parses parameters of a URI: `name=value;name`, without the first semicolon.
    pub(crate) fn parse_uri(text: &str) -> Result<Self, &'static str> {
        let mut params = Self::default();
        for param in text.split(';') {
            let (name, value) = match param.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (param, None),
            };
            if name.is_empty() {
                return Err("a parameter has no name");
            }
            params.append(name, value, false)?;
        }
        Ok(params)
    }

    fn append(
        &mut self,
        name: &str,
        value: Option<String>,
        quoted: bool,
    ) -> Result<(), &'static str> {
        if self.has(name) {
            return Err("a parameter stands there twice");
        }
        if self.0.len() >= COUNT_MAX {
            return Err("too many parameters");
        }
        self.0.push(Param { name: name.to_owned(), value, quoted });
        Ok(())
    }

    /// Writes them as parameters of a URI: encoded, not quoted.
    pub(crate) fn write_uri(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for param in &self.0 {
            f.write_str(";")?;
            write_encoded(f, &param.name, |byte| is_uri_byte(byte) && byte != b'=')?;
            if let Some(value) = &param.value {
                f.write_str("=")?;
                write_encoded(f, value, is_uri_byte)?;
            }
        }
        Ok(())
    }
}

/// What may stand in a header parameter without quotes; more than a token, for addresses.
fn is_bare_byte(byte: u8) -> bool {
    byte >= 0x80 || (byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'<' | b'>'))
}

/// What may stand in a URI parameter as it is. A percent sign was there before.
fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b';' | b'?' | b'@')
}

/// As parameters of a header. What is no token is quoted, and nothing can end the line.
impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for param in &self.0 {
            f.write_str(";")?;
            for byte in param.name.bytes().filter(|byte| is_token_byte(*byte)) {
                write!(f, "{}", char::from(byte))?;
            }
            if let Some(value) = &param.value {
                f.write_str("=")?;
                let bare = !value.is_empty() && value.bytes().all(is_bare_byte);
                if param.quoted || !bare {
                    write_quoted(f, value)?;
                } else {
                    f.write_str(value)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_header() {
        let params =
            Params::parse_header(" ; a = b ;LR; q=\"x;\\\"y\" ; received=[2001:db8::9]").unwrap();
        assert_eq!(params.get("A"), Some("b"));
        assert_eq!(params.get("lr"), Some(""));
        assert_eq!(params.get("q"), Some("x;\"y"));
        assert_eq!(params.to_string(), ";a=b;LR;q=\"x;\\\"y\";received=[2001:db8::9]");
        assert_eq!(Params::parse_header("").unwrap(), Params::default());
        assert_eq!(Params::parse_header(";ms=\"tok\"").unwrap().to_string(), ";ms=\"tok\"");
    }

    #[test]
    fn what_are_no_parameters_is_refused() {
        for text in [
            "a=b",
            ";",
            ";;",
            ";a;",
            ";a=",
            ";=b",
            ";a=\"b",
            ";a=\"b\"c",
            ";a b=c",
            ";a=b c",
            ";a=b,c",
            ";tag=1;TAG=2",
            ";a=<b>",
        ] {
            assert!(Params::parse_header(text).is_err(), "{text}");
        }
        assert!(
            Params::parse_header(&(0..65).map(|n| format!(";p{n}")).collect::<String>()).is_err()
        );
        assert!(
            Params::parse_header(&(0..64).map(|n| format!(";p{n}")).collect::<String>()).is_ok()
        );
    }

    #[test]
    fn set_replaces_and_nothing_breaks_out() {
        let mut params = Params::default();
        params.set("tag", Some("1"));
        params.set("Tag", Some("a b\r\nVia: \"x\""));
        params.set("n\r\nx", None);
        assert_eq!(params.to_string(), ";tag=\"a bVia: \\\"x\\\"\";nx");
        params.remove("TAG");
        assert!(!params.has("tag") && !params.is_empty());
    }
}
