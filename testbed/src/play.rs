use std::path::Path;
use std::time::Duration;

use crate::failure::Failure;
use crate::nodes;
use crate::shape::Shape;
use crate::step::{Count, Line, Login, Opening, Port, Says, Step, Until};

const WITHIN: Duration = Duration::from_secs(8);

/// Reads `play.txt`. The language is described in the testbed's README.
pub(crate) fn load(file: &Path) -> Result<Vec<Line>, Failure> {
    let text = std::fs::read_to_string(file).map_err(Failure::io("read", file))?;
    parse(&text).map_err(|(number, what)| Failure::Scenario {
        file: file.to_owned(),
        what: format!("line {number}: {what}"),
    })
}

/// A statement and the indented block below it.
struct Statement<'a> {
    number: usize,
    said: &'a str,
    block: Vec<&'a str>,
}

fn parse(text: &str) -> Result<Vec<Line>, (usize, String)> {
    statements(text)?
        .into_iter()
        .map(|statement| line(&statement).map_err(|what| (statement.number, what)))
        .collect()
}

fn statements(text: &str) -> Result<Vec<Statement<'_>>, (usize, String)> {
    let mut statements: Vec<Statement<'_>> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let content = line.trim();
        if content.is_empty() || line.starts_with('#') {
            continue;
        }
        if !line.starts_with(' ') {
            statements.push(Statement { number, said: content, block: Vec::new() });
            continue;
        }
        match statements.last_mut() {
            Some(last) if last.said.ends_with(':') => last.block.push(content),
            _ => return Err((number, "is indented, but no line with a `:` stands above".into())),
        }
    }
    Ok(statements)
}

fn line(statement: &Statement<'_>) -> Result<Line, String> {
    let (only, said) = match statement.said.strip_prefix('[').and_then(|rest| rest.split_once(']'))
    {
        Some(("one", rest)) => (Some(Shape::One), rest.trim()),
        Some(("two", rest)) => (Some(Shape::Two), rest.trim()),
        Some((other, _)) => return Err(format!("`[{other}]` is no shape: write [one] or [two]")),
        None => (None, statement.said),
    };
    let sentence = said.strip_suffix(':').unwrap_or(said);
    if said.ends_with(':') && statement.block.is_empty() {
        return Err("ends with `:`, but no indented block follows".into());
    }
    let mut words = Words::new(sentence)?;
    let step = step(&mut words, &statement.block)?;
    if let Some(word) = words.next() {
        return Err(format!("cannot make sense of `{word}`"));
    }
    Ok(Line { number: statement.number, said: said.to_owned(), only, step })
}

fn step(words: &mut Words, block: &[&str]) -> Result<Step, String> {
    let subject = words.next().ok_or("is empty")?;
    match subject.as_str() {
        "kill" => return words.need("a process").map(Step::Kill),
        "stop" => return words.need("a process").map(Step::Stop),
        "start" => return words.need("a process").map(Step::Start),
        "cut" => return words.expect(&["the", "link"]).map(|()| Step::Link(true)),
        "heal" => return words.expect(&["the", "link"]).map(|()| Step::Link(false)),
        "freeze" => return freeze(words, true),
        "thaw" => return freeze(words, false),
        "sipp" => return sipp(words),
        "wait" => return duration(words).map(Step::Wait),
        "memory" => return memory(words),
        "log" => return log(words),
        "metrics" => return admin("/metrics", words),
        "status" => return admin("/status", words),
        "gatehouse" => return command(words, block),
        _ => {}
    }
    if let Ok(count) = subject.parse() {
        words.expect(&["connections", "of"])?;
        let actor = words.need("a crowd")?;
        words.expect(&["are", "refused"])?;
        return Ok(Step::Refused { actor, count, within: within(words)? });
    }
    if let Some(order) = nodes::order(&subject, words)? {
        return Ok(Step::Nodes(order));
    }
    let verb = words.need("a verb")?;
    act(subject, &verb, words, block.join("\n"))
}

fn act(actor: String, verb: &str, words: &mut Words, xml: String) -> Result<Step, String> {
    match verb {
        "connects" => {
            let (login, within) = (login(words)?, within(words)?);
            Ok(Step::Connect { actor, login, refused: None, within })
        }
        "cannot" => {
            words.expect(&["connect"])?;
            let login = login(words)?;
            words.expect(&["because"])?;
            let refused = Some(words.need("a reason")?);
            Ok(Step::Connect { actor, login, refused, within: within(words)? })
        }
        "disconnects" => Ok(Step::Disconnect { actor }),
        "opens" => opening(words).map(|opening| Step::Open { actor, opening }),
        "sends" if words.take(&["again", "what", "was", "not", "acknowledged"]) => {
            Ok(Step::SendAgain { actor })
        }
        "sends" => {
            let bytes = exact(words)?;
            let times = times(words)?;
            let pause = if words.take(&["every"]) { Some(duration(words)?) } else { None };
            Ok(Step::Send { actor, times, xml, bytes, pause })
        }
        "or" => {
            let actors = vec![actor, words.need("somebody else")?];
            words.expect(&["receives"])?;
            let times = times(words)?;
            let count = count(words)?.ok_or("`each once in order` is missing")?;
            Ok(Step::Account { actors, times, xml, count, within: within(words)? })
        }
        "receives" => {
            let times = times(words)?;
            if let Some(count) = count(words)? {
                let within = within(words)?;
                return Ok(Step::Account { actors: vec![actor], times, xml, count, within });
            }
            Ok(Step::Receive { actor, times, xml, within: within(words)? })
        }
        "breaks" => words.expect(&["off"]).map(|()| Step::Break { actor }),
        "was" => {
            words.expect(&["told", "that", "all", "it", "sent", "has", "arrived"])?;
            Ok(Step::Acknowledged { actor, within: within(words)? })
        }
        "comes" => {
            words.expect(&["back"])?;
            let resumes = !words.take(&["too", "late"]);
            Ok(Step::Back { actor, resumes })
        }
        "changes" => words.expect(&["its", "key"]).map(|()| Step::ChangeKey { peer: actor }),
        "stops" => words.expect(&["reading"]).map(|()| Step::Deaf { actor }),
        "holds" => {
            let count = words.number().ok_or("a number is missing")?;
            words.expect(&["connections", "as"])?;
            let port = port(words)?;
            let half = words.take(&["in", "the", "middle", "of", "TLS"]);
            let says = if half { Says::HalfOfTls } else { Says::Nothing };
            let mut sources = 1;
            if words.take(&["from"]) {
                sources = words.number().ok_or("a number is missing")?;
                words.expect(&["addresses"])?;
            }
            Ok(Step::Crowd { actor, count, port, says, sources })
        }
        "drips" => {
            words.expect(&["as"])?;
            Ok(Step::Crowd { actor, count: 1, port: port(words)?, says: Says::Drips, sources: 1 })
        }
        "does" => {
            words.expect(&["not", "receive"])?;
            Ok(Step::Lack { actor, xml, within: within(words)? })
        }
        "has" => {
            words.expect(&["in", "the", "roster"])?;
            Ok(Step::Roster { actor, xml, within: within(words)? })
        }
        "is" => {
            for (word, active) in [("active", true), ("inactive", false)] {
                if words.take(&[word]) {
                    return Ok(Step::Attention { actor, active });
                }
            }
            words.expect(&["cut", "off"])?;
            Ok(Step::Ended { actor, within: within(words)? })
        }
        other => Err(format!("nobody knows how to `{other}`")),
    }
}

/// How stanzas are counted, if that is what the sentence is about.
fn count(words: &mut Words) -> Result<Option<Count>, String> {
    if !words.take(&["each"]) {
        return Ok(None);
    }
    if words.take(&["once"]) {
        return Ok(Some(Count { ordered: words.take(&["in", "order"]), twice_max: 0 }));
    }
    words.expect(&["in", "order", "and", "at", "most"])?;
    let twice_max = words.number().ok_or("a number is missing")?;
    words.expect(&["twice"])?;
    Ok(Some(Count { ordered: true, twice_max }))
}

fn sipp(words: &mut Words) -> Result<Step, String> {
    words.expect(&["sends"])?;
    let count = words.number().ok_or("a number is missing")?;
    words.expect(&["messages", "to"])?;
    let to = words.need("an address")?;
    words.expect(&["as"])?;
    let from = words.need("a local part")?;
    words.expect(&["through"])?;
    let peer = words.need("a peer")?;
    words.expect(&["at"])?;
    let per_second = words.number().ok_or("a number is missing")?;
    words.expect(&["a", "second"])?;
    Ok(Step::Load { peer, from, to, count, per_second })
}

fn login(words: &mut Words) -> Result<Login, String> {
    let mut login = Login::default();
    loop {
        if words.take(&["with", "direct", "TLS"]) {
            login.direct_tls = true;
        } else if words.take(&["with", "priority"]) {
            let number = words.need("a priority")?;
            let priority = number.parse().map_err(|_| format!("`{number}` is no priority"))?;
            login.priority = Some(priority);
        } else if words.take(&["with", "password"]) {
            login.password = Some(words.need("a password")?);
        } else if words.take(&["with", "resumption", "within"]) {
            login.resumption = Some(duration(words)?);
        } else if words.take(&["without", "presence"]) {
            login.without_presence = true;
        } else if words.take(&["interested", "in"]) {
            login.interest = Some(words.need("a node")?);
        } else if words.take(&["with", "xmpp.js"]) {
            login.one_round_trip = true;
        } else if words.take(&["by", "token"]) {
            (login.one_round_trip, login.by_token) = (true, true);
        } else if words.take(&["by"]) {
            login.mechanism = Some(words.need("a SASL mechanism")?);
        } else {
            return Ok(login);
        }
    }
}

fn opening(words: &mut Words) -> Result<Opening, String> {
    words.expect(&["a", "stream", "to"])?;
    let to = words.need("a domain")?;
    words.expect(&["as"])?;
    let port = port(words)?;
    let until = if words.take(&["in", "the", "clear"]) {
        Until::Header
    } else if words.take(&["without", "authentication"]) {
        Until::Tls
    } else {
        Until::Authenticated
    };
    Ok(Opening { to, port, until })
}

fn port(words: &mut Words) -> Result<Port, String> {
    if words.take(&["client"]) {
        return Ok(Port::Client);
    }
    words.expect(&["server"])?;
    Ok(if words.take(&["with", "direct", "TLS"]) { Port::ServerDirectTls } else { Port::Server })
}

fn freeze(words: &mut Words, frozen: bool) -> Result<Step, String> {
    words.need("a process").map(|process| Step::Freeze { process, frozen })
}

fn memory(words: &mut Words) -> Result<Step, String> {
    words.expect(&["of"])?;
    let process = words.need("a process")?;
    words.expect(&["stayed", "under"])?;
    let mebibytes = words.number().ok_or("a number is missing")?.into();
    words.expect(&["MiB"])?;
    Ok(Step::Memory { process, mebibytes })
}

fn exact(words: &mut Words) -> Result<Option<usize>, String> {
    if !words.take(&["exactly"]) {
        return Ok(None);
    }
    let bytes = words.number().ok_or("a number is missing")?;
    words.expect(&["bytes"])?;
    usize::try_from(bytes).map(Some).map_err(|_| "is too much".into())
}

fn log(words: &mut Words) -> Result<Step, String> {
    words.expect(&["of"])?;
    let process = words.need("a process")?;
    let wanted = if words.take(&["contains"]) {
        true
    } else {
        words.expect(&["does", "not", "contain"])?;
        false
    };
    let (texts, within) = (texts(words)?, within(words)?);
    Ok(Step::Log { process, texts, wanted, within })
}

fn admin(path: &'static str, words: &mut Words) -> Result<Step, String> {
    words.expect(&["of"])?;
    let process = words.need("a process")?;
    words.expect(&["contain"])?;
    let (texts, within) = (texts(words)?, within(words)?);
    Ok(Step::Admin { path, process, texts, within })
}

fn command(words: &mut Words, block: &[&str]) -> Result<Step, String> {
    let (mut arguments, mut input) = (Vec::new(), String::new());
    loop {
        let word = words.need("`succeeds` or `fails`")?;
        let succeeds = match word.as_str() {
            "succeeds" => true,
            "fails" => false,
            "told" => {
                input = format!("{}\n", words.need("what is typed")?);
                continue;
            }
            _ => {
                arguments.push(word);
                continue;
            }
        };
        if !block.is_empty() {
            words.expect(&["and", "says"])?;
        }
        let says = block.iter().map(|line| (*line).to_owned()).collect();
        return Ok(Step::Command { arguments, input, succeeds, says });
    }
}

fn texts(words: &mut Words) -> Result<Vec<String>, String> {
    let mut texts = vec![words.need("a text in quotes")?];
    while words.take(&["and"]) {
        texts.push(words.need("a text in quotes")?);
    }
    Ok(texts)
}

/// How long something may take, if the sentence says so.
pub(crate) fn within(words: &mut Words) -> Result<Duration, String> {
    if words.take(&["within"]) { duration(words) } else { Ok(WITHIN) }
}

/// A time, such as `5s`.
pub(crate) fn duration(words: &mut Words) -> Result<Duration, String> {
    let said = words.need("a duration")?;
    let seconds = said.strip_suffix('s').and_then(|number| number.parse::<f64>().ok());
    seconds
        .filter(|seconds| (0.0..=90.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("`{said}` is no duration; write for example 5s"))
}

fn times(words: &mut Words) -> Result<u32, String> {
    match words.number() {
        Some(count) => words.expect(&["times"]).map(|()| count),
        None => Ok(1),
    }
}

/// The words of a sentence; text in quotes is one word.
pub(crate) struct Words(std::collections::VecDeque<String>);

impl Words {
    fn new(sentence: &str) -> Result<Self, String> {
        let mut words = Vec::new();
        for (index, part) in sentence.split('"').enumerate() {
            if index % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        if sentence.matches('"').count() % 2 == 1 {
            return Err("a quote is not closed".into());
        }
        Ok(Self(words.into()))
    }

    fn next(&mut self) -> Option<String> {
        self.0.pop_front()
    }

    /// The next word, or what is missing.
    pub(crate) fn need(&mut self, what: &str) -> Result<String, String> {
        self.next().ok_or_else(|| format!("{what} is missing"))
    }

    /// Takes `words` if they come next.
    pub(crate) fn take(&mut self, words: &[&str]) -> bool {
        let comes = self.0.iter().map(String::as_str).take(words.len()).eq(words.iter().copied());
        if comes {
            self.0.drain(..words.len());
        }
        comes
    }

    /// Takes `words`, which must come next.
    pub(crate) fn expect(&mut self, words: &[&str]) -> Result<(), String> {
        if self.take(words) {
            return Ok(());
        }
        let found = self.0.front().map_or("the end of the line", String::as_str);
        Err(format!("`{}` must stand where `{found}` is", words.join(" ")))
    }

    /// Takes a number if one comes next.
    pub(crate) fn number(&mut self) -> Option<u32> {
        let number = self.0.front()?.parse().ok()?;
        self.0.pop_front();
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only_step(text: &str) -> Step {
        parse(text).unwrap().remove(0).step
    }

    #[test]
    fn sentences_become_steps() {
        assert_eq!(
            only_step("romeo/garden connects with priority -1 by PLAIN within 2s"),
            Step::Connect {
                actor: "romeo/garden".into(),
                login: Login {
                    priority: Some(-1),
                    mechanism: Some("PLAIN".into()),
                    ..Login::default()
                },
                refused: None,
                within: Duration::from_secs(2),
            }
        );
        assert_eq!(
            only_step(
                "romeo receives 3 times within 0.5s:\n    <message>\n      <body/>\n    </message>"
            ),
            Step::Receive {
                actor: "romeo".into(),
                times: 3,
                xml: "<message>\n<body/>\n</message>".into(),
                within: Duration::from_millis(500),
            }
        );
        assert_eq!(
            only_step("juliet or romeo receives 3 times each once in order:\n    <message/>"),
            Step::Account {
                actors: vec!["juliet".into(), "romeo".into()],
                times: 3,
                xml: "<message/>".into(),
                count: Count { ordered: true, twice_max: 0 },
                within: WITHIN,
            }
        );
        for (said, ordered, twice_max) in [
            ("each once within 8s", false, 0),
            ("each once in order within 8s", true, 0),
            ("each in order and at most 64 twice within 8s", true, 64),
        ] {
            assert_eq!(
                only_step(&format!("romeo receives 3 times {said}:\n    <message/>")),
                Step::Account {
                    actors: vec!["romeo".into()],
                    times: 3,
                    xml: "<message/>".into(),
                    count: Count { ordered, twice_max },
                    within: WITHIN,
                }
            );
        }
        for (said, login) in [
            ("with xmpp.js", Login { one_round_trip: true, ..Login::default() }),
            ("by token", Login { one_round_trip: true, by_token: true, ..Login::default() }),
        ] {
            assert_eq!(
                only_step(&format!("romeo connects {said}")),
                Step::Connect { actor: "romeo".into(), login, refused: None, within: WITHIN }
            );
        }
        assert_eq!(
            only_step("romeo is inactive"),
            Step::Attention { actor: "romeo".into(), active: false }
        );
        assert_eq!(
            only_step("evil sends exactly 100 bytes:\n    <a>{fill:x}</a>"),
            Step::Send {
                actor: "evil".into(),
                times: 1,
                xml: "<a>{fill:x}</a>".into(),
                bytes: Some(100),
                pause: None,
            }
        );
        assert_eq!(
            only_step("evil holds 500 connections as server with direct TLS"),
            Step::Crowd {
                actor: "evil".into(),
                count: 500,
                port: Port::ServerDirectTls,
                says: Says::Nothing,
                sources: 1,
            }
        );
        assert_eq!(
            only_step("evil holds 5 connections as server in the middle of TLS from 2 addresses"),
            Step::Crowd {
                actor: "evil".into(),
                count: 5,
                port: Port::Server,
                says: Says::HalfOfTls,
                sources: 2,
            }
        );
        assert_eq!(
            only_step("romeo sends 3 times every 0.5s:\n    <a/>"),
            Step::Send {
                actor: "romeo".into(),
                times: 3,
                xml: "<a/>".into(),
                bytes: None,
                pause: Some(Duration::from_millis(500)),
            }
        );
        assert_eq!(
            only_step("9 connections of evil are refused within 2s"),
            Step::Refused { actor: "evil".into(), count: 9, within: Duration::from_secs(2) }
        );
        assert_eq!(
            only_step("memory of edge stayed under 64 MiB"),
            Step::Memory { process: "edge".into(), mebibytes: 64 }
        );
        assert_eq!(
            only_step("log of edge does not contain \"a b\" and \"c\" within 1s"),
            Step::Log {
                process: "edge".into(),
                texts: vec!["a b".into(), "c".into()],
                wanted: false,
                within: Duration::from_secs(1),
            }
        );
        assert_eq!(
            only_step("gatehouse check-config --config x fails and says:\n    no such domain"),
            Step::Command {
                input: String::new(),
                arguments: vec!["check-config".into(), "--config".into(), "x".into()],
                succeeds: false,
                says: vec!["no such domain".into()],
            }
        );
        assert_eq!(
            only_step("evil opens a stream to ours.example as server with direct TLS"),
            Step::Open {
                actor: "evil".into(),
                opening: Opening {
                    to: "ours.example".into(),
                    port: Port::ServerDirectTls,
                    until: Until::Authenticated,
                },
            }
        );
    }

    #[test]
    fn a_line_may_be_for_one_shape_only() {
        let lines = parse("# about\n\n[two] kill edge\nkill core").unwrap();
        let told: Vec<_> = lines.iter().map(|line| (line.number, line.only)).collect();
        assert_eq!(told, [(3, Some(Shape::Two)), (4, None)]);
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        for (text, number, what) in [
            ("romeo sings", 1, "sing"),
            ("\nromeo connects loudly", 2, "loudly"),
            ("romeo receives within five:\n  <a/>", 1, "duration"),
            ("romeo sends:", 1, "block"),
            ("  <a/>", 1, "indented"),
            ("romeo connects\n  <a/>", 2, "indented"),
            ("log of us contains \"open", 1, "quote"),
            ("[three] kill us", 1, "shape"),
            ("kill", 1, "process"),
        ] {
            let (at, why) = parse(text).unwrap_err();
            assert_eq!(at, number, "{text}");
            assert!(why.contains(what), "{text}: {why}");
        }
    }
}
