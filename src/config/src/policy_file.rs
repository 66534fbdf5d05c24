use std::fs;
use std::path::Path;

use gatehouse_policy::Policy;

use crate::problem::{Problem, Problems, Source};

/// Reads and checks a policy file.
pub fn read_policy(file: &Path) -> Result<Policy, Problems> {
    let text = fs::read_to_string(file).map_err(|error| {
        Problems(vec![Problem {
            file: file.to_owned(),
            line: 0,
            text: String::new(),
            what: format!("the policy cannot be read: {error}"),
            remedy: "name an existing file in `policy.file`".into(),
        }])
    })?;
    parse_policy(file, &text)
}

/// Reads and checks the text of a policy file.
pub fn parse_policy(file: &Path, text: &str) -> Result<Policy, Problems> {
    let source = Source { file: file.to_owned(), text };
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let remedy = "see the commented examples in policies/".to_owned();
        let what = error.message().replace('\n', "; ");
        Problems(vec![source.problem(error.span().unwrap_or(0..0), what, remedy)])
    })
}
