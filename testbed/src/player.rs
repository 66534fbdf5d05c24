use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::admin;
use crate::clock::{now, poll};
use crate::failure::Failure;
use crate::port;
use crate::scenario::Scenario;
use crate::shape::Shape;
use crate::sipp::Load;
use crate::stage::{FIRST_PEER, Stage};
use crate::step::{Line, Login, Opening, Port, Says, Step, Until};

/// As much as goes to the driver in one command.
const PORTION_BYTES: usize = 1024 * 1024;
/// The last octet of the address from which crowds come.
const CROWD: u8 = 200;
/// The last octet of the address from which sipp sends.
const SIPP: u8 = 210;
const OPEN_WITHIN: Duration = Duration::from_secs(15);

/// Plays a script on a stage.
pub(crate) struct Player<'a> {
    stage: &'a mut Stage,
    scenario: &'a Scenario,
    deadline: Instant,
}

impl<'a> Player<'a> {
    /// A player who gives up at `deadline`.
    pub(crate) fn new(stage: &'a mut Stage, scenario: &'a Scenario, deadline: Instant) -> Self {
        Self { stage, scenario, deadline }
    }

    /// Plays the lines that are meant for `shape`.
    pub(crate) fn play(&mut self, shape: Shape) -> Result<(), Failure> {
        for line in &self.scenario.play {
            if line.only.is_some_and(|only| only != shape) {
                continue;
            }
            if now() > self.deadline {
                return Err(at(line, "the scenario takes too long as a whole".into()));
            }
            self.perform(&line.step).map_err(|why| at(line, why))?;
        }
        Ok(())
    }

    fn perform(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Connect { actor, within, .. } if self.stage.sip_users.contains_key(actor) => {
                let (partner, address) =
                    self.stage.sip_users.get(actor).cloned().unwrap_or_default();
                let command = json!({
                    "do": "sip_user", "actor": actor, "partner": partner, "address": address,
                });
                self.stage.driver.tell(command, *within)
            }
            Step::Connect { actor, login, refused, within } => {
                let command = self.connect(actor, login, refused.as_deref())?;
                self.stage.driver.tell(command, *within)
            }
            Step::Disconnect { actor } => {
                self.stage.driver.tell(json!({"do": "disconnect", "actor": actor}), OPEN_WITHIN)
            }
            Step::Open { actor, opening } => {
                let command = self.open(actor, opening)?;
                self.stage.driver.tell(command, OPEN_WITHIN)
            }
            Step::Send { actor, times, xml, bytes, pause: None } => {
                self.send(actor, *times, &fill(xml, *bytes)?)
            }
            Step::Send { actor, times, xml, pause: Some(pause), .. } => {
                let xml = written_out(xml)?;
                let all: Vec<_> =
                    (1..=*times).map(|n| xml.replace("{n}", &n.to_string())).collect();
                let pause = pause.as_secs_f64();
                let command = json!({"do": "pace", "actor": actor, "xml": all, "pause": pause});
                self.stage.driver.tell(command, OPEN_WITHIN)
            }
            Step::Account { actors, times, xml, count, within } => {
                let all = repeated(*times, xml)?;
                let command = json!({
                    "do": "account", "actors": actors, "xml": all, "ordered": count.ordered,
                    "twice_max": count.twice_max,
                });
                self.stage.driver.tell(command, *within)
            }
            Step::Crowd { actor, count, port, says, sources } => {
                let (address, ..) = self.target(*port);
                let command = json!({
                    "do": "crowd", "actor": actor, "count": count, "host": address.ip(),
                    "port": address.port(), "sources": (0..*sources)
                        .map(|number| CROWD - u8::try_from(number).unwrap_or_default())
                        .map(|last| self.stage.block.host(last))
                        .collect::<Vec<_>>(),
                    "pause": (*says == Says::Drips).then_some(1.0),
                    "hello": *says == Says::HalfOfTls,
                });
                self.stage.driver.tell(command, OPEN_WITHIN)
            }
            Step::Refused { actor, count, within } => {
                let command = json!({"do": "refused", "actor": actor, "count": count});
                self.stage.driver.tell(command, *within)
            }
            Step::Break { actor } => {
                self.stage.driver.tell(json!({"do": "lose", "actor": actor}), OPEN_WITHIN)
            }
            Step::Back { actor, resumes } => {
                let command = json!({"do": "back", "actor": actor, "resumes": resumes});
                self.stage.driver.tell(command, OPEN_WITHIN)
            }
            Step::Acknowledged { actor, within } => {
                self.stage.driver.tell(json!({"do": "acknowledged", "actor": actor}), *within)
            }
            Step::SendAgain { actor } => {
                self.stage.driver.tell(json!({"do": "again", "actor": actor}), OPEN_WITHIN)
            }
            Step::Attention { actor, active } => {
                let command = json!({"do": "attention", "actor": actor, "active": active});
                self.stage.driver.tell(command, OPEN_WITHIN)
            }
            Step::Deaf { actor } => {
                self.stage.driver.tell(json!({"do": "deaf", "actor": actor}), OPEN_WITHIN)
            }
            Step::ChangeKey { peer } => said(self.stage.change_key(peer)),
            Step::Link(cut) => {
                let what = if *cut { "cut" } else { "heal" };
                self.stage.driver.tell(json!({"do": what, "actor": "link"}), OPEN_WITHIN)
            }
            Step::Load { peer, from, to, count, per_second } => {
                self.load(peer, from, to, (*count, *per_second))
            }
            Step::Nodes(order) => {
                let lab = self.stage.lab.as_mut().ok_or("world.toml has no nodes")?;
                lab.perform(order)
            }
            Step::Wait(time) => {
                let command = json!({"do": "wait", "seconds": time.as_secs_f64()});
                self.stage.driver.tell(command, *time)
            }
            Step::Freeze { process, frozen } => said(self.stage.freeze(process, *frozen)),
            Step::Memory { process, mebibytes } => {
                let peak = said(self.stage.memory_peak(process))? / (1024 * 1024);
                let why = || format!("it had {peak} MiB in use");
                (peak < *mebibytes).then_some(()).ok_or_else(why)
            }
            Step::Receive { actor, times, xml, within } => {
                self.repeat(*times, "receive", actor, xml, *within)
            }
            Step::Lack { actor, xml, within } => self.repeat(1, "absent", actor, xml, *within),
            Step::Roster { actor, xml, within } => self.repeat(1, "roster", actor, xml, *within),
            Step::Ended { actor, within } => {
                self.stage.driver.tell(json!({"do": "ended", "actor": actor}), *within)
            }
            Step::Kill(process) => said(self.stage.kill(process)),
            Step::Stop(process) => said(self.stage.stop(process)),
            Step::Start(process) => said(self.stage.start(process)),
            Step::Log { process, texts, wanted, within } => {
                self.log(process, texts, *wanted, *within)
            }
            Step::Admin { path, process, texts, within } => {
                self.admin(path, process, texts, *within)
            }
            Step::Command { arguments, input, succeeds, says } => {
                self.command((arguments, input), *succeeds, says)
            }
        }
    }

    fn load(&self, peer: &str, from: &str, to: &str, load: (u32, u32)) -> Result<(), String> {
        let peers = FIRST_PEER..;
        let mut peers = peers.zip(&self.scenario.world.peers);
        let found = peers.find(|(_, one)| one.name == peer);
        let (address, peer) = found.ok_or_else(|| format!("world.toml knows no peer `{peer}`"))?;
        let load = Load {
            proxy: self.stage.block.at(address, port::SIP),
            from_address: &self.stage.block.host(SIPP).to_string(),
            from: &format!("{from}@{}", peer.domain),
            to,
            count: load.0,
            per_second: load.1,
        };
        said(load.send(self.stage.directory()))
    }

    fn connect(&self, actor: &str, login: &Login, refused: Option<&str>) -> Result<Value, String> {
        let (name, resource) = actor.split_once('/').unwrap_or((actor, "client"));
        let person = self.stage.people.get(name);
        let person = person.ok_or_else(|| format!("world.toml knows no user `{name}`"))?;
        Ok(json!({
            "do": "connect",
            "actor": actor,
            "jid": format!("{}/{resource}", person.address),
            "password": login.password.as_ref().unwrap_or(&person.password),
            "host": person.host,
            "port": if login.direct_tls { port::C2S_DIRECT_TLS } else { port::C2S },
            "tls": if login.direct_tls { "direct" } else { "starttls" },
            "trust": person.trust,
            "mechanism": login.mechanism,
            "presence": !login.without_presence,
            "resumption": login.resumption.map(|time| time.as_secs()),
            "priority": login.priority,
            "interest": login.interest,
            "one_round_trip": login.one_round_trip,
            "by_token": login.by_token,
            "refused": refused,
        }))
    }

    fn open(&self, actor: &str, opening: &Opening) -> Result<Value, String> {
        let raw = self.scenario.world.raws.iter().find(|raw| raw.name == actor);
        let raw = raw.ok_or_else(|| format!("world.toml knows no raw peer `{actor}`"))?;
        let files = self.stage.raw_certificates.get(actor);
        let (address, namespace, tls) = self.target(opening.port);
        let until = match opening.until {
            Until::Header => "features",
            Until::Tls => "tls",
            Until::Authenticated => "authenticated",
        };
        Ok(json!({
            "do": "open", "actor": actor, "host": address.ip(), "port": address.port(),
            "namespace": namespace,
            "tls": tls, "alpn": "xmpp-server", "until": until,
            "from": raw.claims.as_ref().unwrap_or(&raw.domain), "to": opening.to,
            "certificate": files.map(|files| &files.certificate),
            "key": files.map(|files| &files.key),
        }))
    }

    /// Where one of our ports is, the namespace spoken there, and how TLS begins.
    fn target(&self, port: Port) -> (SocketAddr, &'static str, &'static str) {
        let shape = self.stage.gatehouse.as_ref().map_or(Shape::None, |us| us.shape());
        let (servers, clients) = crate::gatehouse::addresses(&self.stage.block, shape);
        let at = |address: SocketAddr, port| SocketAddr::new(address.ip(), port);
        match port {
            Port::Client => (at(clients, port::C2S), "jabber:client", "starttls"),
            Port::Server => (at(servers, port::S2S), "jabber:server", "starttls"),
            Port::ServerDirectTls => (at(servers, port::S2S_DIRECT_TLS), "jabber:server", "direct"),
        }
    }

    /// In portions, because a command of the driver has to fit on one line.
    fn send(&mut self, actor: &str, times: u32, xml: &str) -> Result<(), String> {
        let xml = written_out(xml)?;
        let mut portion = String::new();
        for n in 1..=times {
            portion += &xml.replace("{n}", &n.to_string());
            if portion.len() >= PORTION_BYTES || n == times {
                let command = json!({"do": "send", "actor": actor, "xml": portion});
                self.stage.driver.tell(command, OPEN_WITHIN)?;
                portion.clear();
            }
        }
        Ok(())
    }

    fn repeat(
        &mut self,
        times: u32,
        what: &str,
        actor: &str,
        xml: &str,
        within: Duration,
    ) -> Result<(), String> {
        let all = repeated(times, xml)?;
        self.stage.driver.tell(json!({"do": what, "actor": actor, "xml": all}), within)
    }

    fn log(
        &self,
        process: &str,
        texts: &[String],
        wanted: bool,
        within: Duration,
    ) -> Result<(), String> {
        let file = said(self.stage.log(process))?;
        let read = || lines_with(&fs::read_to_string(&file).unwrap_or_default(), texts);
        if wanted {
            let found = poll(within, || (!read().is_empty()).then_some(()));
            return found.ok_or_else(|| format!("no such line after {within:?}"));
        }
        match read().first() {
            Some(line) => Err(format!("there is such a line: {line}")),
            None => Ok(()),
        }
    }

    fn admin(
        &self,
        path: &str,
        process: &str,
        texts: &[String],
        within: Duration,
    ) -> Result<(), String> {
        let gatehouse = self.stage.gatehouse.as_ref().ok_or("there is nobody of ours")?;
        let name = said(self.stage.process_name(process))?;
        let address = said(gatehouse.admin(&name))?;
        let mut last = String::new();
        let found = poll(within, || {
            last = admin::fetch(address, path).unwrap_or_else(|| "no answer".into());
            // The status is one long line: a stream a line makes it comparable.
            let lines = last.replace("},{", "},\n{");
            (!lines_with(&lines, texts).is_empty()).then_some(())
        });
        found.ok_or_else(|| format!("no such line after {within:?}; the last answer was:\n{last}"))
    }

    fn command(
        &self,
        (arguments, input): (&[String], &str),
        succeeds: bool,
        says: &[String],
    ) -> Result<(), String> {
        let gatehouse = self.stage.gatehouse.as_ref().ok_or("there is nobody of ours")?;
        let edge = gatehouse.edge_config().unwrap_or_else(|| gatehouse.config());
        let edge = edge.display().to_string();
        let fill =
            |one: &String| self.fill(&one.replace("{edge-config}", &edge), gatehouse.config());
        let arguments: Vec<String> = arguments.iter().map(fill).collect();
        let (success, output) = said(gatehouse.command(&arguments, input))?;
        if success != succeeds {
            let outcome = if success { "succeeded" } else { "failed" };
            return Err(format!("it {outcome} and said:\n{output}"));
        }
        match says.iter().find(|text| !output.contains(text.as_str())) {
            Some(text) => Err(format!("it does not say `{text}`, but:\n{output}")),
            None => Ok(()),
        }
    }

    fn fill(&self, text: &str, config: &Path) -> String {
        text.replace("{scenario}", &self.scenario.directory.display().to_string())
            .replace("{config}", &config.display().to_string())
    }
}

/// `xml` so many times, with `{n}` counting from one and `{repeat:9:...}` written out.
fn repeated(times: u32, xml: &str) -> Result<String, String> {
    let xml = written_out(xml)?;
    Ok((1..=times).map(|n| xml.replace("{n}", &n.to_string())).collect())
}

/// `xml` with every `{repeat:9:...}` replaced by its content so many times, `{i}` counting from one.
fn written_out(xml: &str) -> Result<String, String> {
    let Some((before, rest)) = xml.split_once("{repeat:") else { return Ok(xml.to_owned()) };
    let (count, rest) = rest.split_once(':').ok_or("`{repeat:9:` lacks a colon")?;
    let count: u32 = count.parse().map_err(|_| format!("`{count}` is no number"))?;
    let mut depth = 1;
    let end = rest.find(|character| {
        depth += match character {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        depth == 0
    });
    let (content, after) =
        end.and_then(|end| rest.split_at_checked(end)).ok_or("`{repeat:` is not closed")?;
    let all: String = (1..=count).map(|i| content.replace("{i}", &i.to_string())).collect();
    Ok(format!("{before}{all}{}", written_out(after.get(1..).unwrap_or_default())?))
}

/// `xml` with `{fill:x}` replaced by so many `x` that the whole has `bytes` bytes, the rest
/// dashes if `x` is longer than one.
fn fill(xml: &str, bytes: Option<usize>) -> Result<String, String> {
    let Some(bytes) = bytes else { return Ok(xml.to_owned()) };
    let (before, rest) = xml.split_once("{fill:").ok_or("`{fill:x}` is missing")?;
    let (filler, after) = rest.split_once('}').ok_or("`{fill:` is not closed")?;
    let left = bytes.checked_sub(before.len() + after.len());
    let left = left.ok_or_else(|| format!("is longer than {bytes} bytes"))?;
    let (times, pad) = (left / filler.len().max(1), left % filler.len().max(1));
    Ok(format!("{before}{}{}{after}", filler.repeat(times), "-".repeat(pad)))
}

/// The lines that contain all of `texts`.
fn lines_with(content: &str, texts: &[String]) -> Vec<String> {
    let has_all = |line: &&str| texts.iter().all(|text| line.contains(text.as_str()));
    content.lines().filter(has_all).map(str::to_owned).collect()
}

fn said<T>(result: Result<T, Failure>) -> Result<T, String> {
    result.map_err(|failure| failure.to_string())
}

fn at(line: &Line, why: String) -> Failure {
    Failure::Play { line: line.number, said: line.said.clone(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_text_has_as_many_bytes_as_it_should() {
        assert_eq!(fill("<a>{fill:x}</a>", Some(10)), Ok("<a>xxx</a>".into()));
        assert_eq!(fill("<a>{fill:&gt;}</a>", Some(15)), Ok("<a>&gt;&gt;</a>".into()));
        assert_eq!(fill("<a/>", None), Ok("<a/>".into()));
        assert_eq!(fill("<a>{fill:&gt;}</a>", Some(13)), Ok("<a>&gt;--</a>".into()));
        assert!(fill("<a/>", Some(10)).is_err());
        assert!(fill("<a>{fill:x}</a>", Some(3)).is_err());
    }

    #[test]
    fn what_repeats_is_written_out() {
        let xml = r#"<a{repeat:2: b{i}="{n}"}>{repeat:3:x}</a>"#;
        let all = r#"<a b1="1" b2="1">xxx</a><a b1="2" b2="2">xxx</a>"#;
        assert_eq!(repeated(2, xml), Ok(all.into()));
        assert!(repeated(1, "{repeat:2:x").is_err());
        assert!(repeated(1, "{repeat:many:x}").is_err());
    }
}
