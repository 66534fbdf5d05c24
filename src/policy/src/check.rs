use std::collections::BTreeMap;
use std::fmt;

use crate::{Action, Pattern, Policy, Require, Rule, Tls};

/// Places and keys of one rule; more is a mistake.
const LIST_LEN_MAX: usize = 16;

/// A rule that can be read but does not make sense.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyProblem {
    /// The rule, counted from 0.
    pub rule_index: usize,
    /// The key within the rule, as written in the file.
    pub field: &'static str,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}, `{}`: {}", self.rule_index + 1, self.field, self.message)
    }
}

impl Policy {
    /// All mistakes that reading alone does not find, in the order of the rules. A policy with a
    /// problem must not be put in force.
    pub fn check(&self) -> Vec<PolicyProblem> {
        let mut problems = Vec::new();
        let mut names = BTreeMap::new();
        for (rule_index, rule) in self.rules.iter().enumerate() {
            let mut report = |field, message: String| {
                problems.push(PolicyProblem { rule_index, field, message });
            };
            check_alone(rule, &mut report);
            let name = rule.name.trim();
            if let Some(first) = names.get(name).filter(|_| !name.is_empty()) {
                let first: usize = *first;
                report(
                    "name",
                    format!(
                        "rule {} is called `{name}`, too: each rule needs its own name, because logs show it",
                        first + 1
                    ),
                );
            } else {
                names.insert(name, rule_index);
            }
            let above = self.rules.iter().take(rule_index);
            let shadow = above.clone().find(|above| above.leaves_nothing_to(rule));
            if let Some(above) = shadow.filter(|_| !rule.remote.is_empty()) {
                report(
                    "remote",
                    format!(
                        "this rule is never used, because rule `{}` above it speaks of all these \
                         domains already: move this rule up, or remove it",
                        above.name
                    ),
                );
            }
        }
        problems
    }
}

fn check_alone(rule: &Rule, report: &mut impl FnMut(&'static str, String)) {
    if rule.name.trim().is_empty() {
        report("name", "a rule needs a name, because logs show it: write what it is for".into());
    }
    if rule.name.chars().any(char::is_control) || rule.name.chars().count() > 80 {
        report("name", "write at most 80 characters on one line".into());
    }
    if rule.remote.is_empty() {
        report(
            "remote",
            "the list is empty: write domains like `them.example` or `*.them.example`, or `*` for \
             all"
            .into(),
        );
    }
    if rule.local.as_ref().is_some_and(Vec::is_empty) {
        report(
            "local",
            "the list is empty: write domains of yours, or leave `local` out to mean all of them"
                .into(),
        );
    }
    check_route_and_pin(rule, report);
    // A certificate is shown in the TLS handshake: without one there is nothing to require.
    if (rule.tls, rule.require) == (Tls::Optional, Require::Certificate) {
        report(
            "tls",
            "a certificate can only be shown over TLS: write `tls = \"required\"`, or \
             `require = \"certificate-or-dialback\"`"
                .into(),
        );
    }
}

fn check_route_and_pin(rule: &Rule, report: &mut impl FnMut(&'static str, String)) {
    let given = [("route", rule.route.len()), ("pin", rule.pin.len())];
    for (field, count) in given.into_iter().filter(|(_, count)| *count > 0) {
        if rule.action == Action::Block {
            report(field, "a rule that blocks needs none: remove it, or remove `action`".into());
        }
        if count > LIST_LEN_MAX {
            report(field, format!("there are {count} of them: write at most {LIST_LEN_MAX}"));
        }
        // One key must not speak for the whole world, and one place cannot be all of it.
        if rule.remote.contains(&Pattern::Any) {
            report(
                field,
                "`*` stands in `remote`, and this would hold for every domain there is: name the \
                 partner"
                    .into(),
            );
        }
    }
    if !rule.pin.is_empty() && rule.require == Require::CertificateOrDialback {
        report(
            "pin",
            "dialback would get around the pinned key: write `require = \"certificate\"`, or \
             remove `pin`"
                .into(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        toml::from_str::<Policy>(text).unwrap().check().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let text = r#"
            [[rule]]
            name = "old"
            remote = ["old.example"]
            tls = "optional"
            [[rule]]
            name = "old"
            remote = []
            local = []
            [[rule]]
            name = " "
            remote = ["a.example"]
            [[rule]]
            name = "all"
            remote = ["*"]
            [[rule]]
            name = "late block"
            remote = ["evil.example", "*.evil.example"]
            action = "block"
        "#;
        let told = problems(text);
        for (line, want) in told.iter().zip([
            "rule 1, `tls`: a certificate can only be shown over TLS",
            "rule 2, `remote`: the list is empty",
            "rule 2, `local`: the list is empty",
            "rule 2, `name`: rule 1 is called `old`, too",
            "rule 3, `name`: a rule needs a name",
            "rule 5, `remote`: this rule is never used, because rule `all` above",
        ]) {
            assert!(line.starts_with(want), "{line}");
        }
        assert_eq!(told.len(), 6, "{told:#?}");
    }

    #[test]
    fn a_pin_and_a_route_belong_to_named_partners() {
        let key = format!("pin = [\"sha256:{}\"]", "0".repeat(64));
        let route = "route = [\"192.0.2.7\"]";
        let rule = |remote: &str, lines: &str| {
            problems(&format!("[[rule]]\nname = \"a\"\nremote = [\"{remote}\"]\n{lines}\n"))
        };
        assert!(rule("them.example", &format!("{key}\n{route}")).is_empty());
        assert!(rule("*.them.example", &key).is_empty());
        for (remote, lines, want) in [
            ("*", key.clone(), "rule 1, `pin`: `*` stands in `remote`"),
            ("*", route.to_owned(), "rule 1, `route`: `*` stands in `remote`"),
            (
                "b.example",
                format!("{key}\naction = \"block\""),
                "rule 1, `pin`: a rule that blocks",
            ),
            (
                "b.example",
                format!("{key}\nrequire = \"certificate-or-dialback\""),
                "rule 1, `pin`: dialback would get around",
            ),
            (
                "b.example",
                format!("route = [{}]", "\"192.0.2.7\",".repeat(17)),
                "rule 1, `route`: there are 17 of them",
            ),
        ] {
            let told = rule(remote, &lines);
            assert!(told.len() == 1 && told[0].starts_with(want), "{told:?}");
        }
    }

    #[test]
    fn a_later_rule_with_something_left_is_no_mistake() {
        let told = problems(
            r#"
            [[rule]]
            name = "partner for one domain"
            remote = ["*.them.example"]
            local = ["ours.example"]
            [[rule]]
            name = "partner itself"
            remote = ["them.example"]
            [[rule]]
            name = "partner for the others"
            remote = ["*.them.example"]
            require = "certificate-or-dialback"
            tls = "optional"
        "#,
        );
        assert!(told.is_empty(), "{told:#?}");
    }

    #[test]
    fn mistakes_in_writing_are_named_with_their_place() {
        let good = "[[rule]]\nname = \"a\"\nremote = [\"b.example\"]\n";
        for (line, want) in [
            ("requires = \"certificate\"", "unknown field `requires`"),
            ("require = \"dialback\"", "expected `certificate` or `certificate-or-dialback`"),
            ("action = \"deny\"", "expected `allow` or `block`"),
            ("tls = \"no\"", "expected `required` or `optional`"),
            ("local = [\"*.x\"]", "is not a domain name"),
            ("stanzas-per-second = 0", "nonzero"),
            ("route = [\"http://x.example\"]", "is not a route"),
            ("pin = [\"sha256:00\"]", "is not a pin"),
        ] {
            let error = toml::from_str::<Policy>(&format!("{good}{line}\n")).unwrap_err();
            assert!(error.message().contains(want), "{error}");
            assert!(error.span().is_some(), "no position: {error}");
        }
        let error =
            toml::from_str::<Policy>("[[rule]]\nname=\"a\"\nremote=[\"*.\"]\n").unwrap_err();
        assert!(error.message().contains("`*.` must be followed by a domain"), "{error}");
    }

    /// What we ship must load: every file under `policies/`, with the code that will read it.
    #[test]
    fn shipped_policies_load() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies");
        let mut seen = 0;
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let policy = toml::from_str::<Policy>(&text)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(policy.check(), [], "{}", path.display());
            seen += 1;
        }
        assert!(seen >= 3, "only {seen} policies found in {dir}");
    }

    #[test]
    fn the_built_in_policy_is_the_one_we_ship() {
        let text = include_str!("../../../policies/open-with-certificate.toml");
        assert_eq!(toml::from_str::<Policy>(text).unwrap(), Policy::open_with_certificate());
    }
}
