use std::fmt;

/// `;name=value` parameters in order; names compare without case. Values are kept unquoted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Params(Vec<(String, Option<String>)>);

impl Params {
    /// The value of the first parameter of this name; `Some("")` if it stands without a value.
    pub fn get(&self, name: &str) -> Option<&str> {
        let _ = name;
        todo!()
    }

    /// True if a parameter of this name stands there.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Replaces the first of this name, or appends.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        let _ = (name, value);
        todo!()
    }

    /// Takes all of this name out.
    pub fn remove(&mut self, name: &str) {
        let _ = name;
        todo!()
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = f;
        todo!()
    }
}
