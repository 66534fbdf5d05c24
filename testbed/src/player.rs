use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::admin;
use crate::clock::{now, poll};
use crate::failure::Failure;
use crate::port;
use crate::scenario::Scenario;
use crate::shape::Shape;
use crate::stage::Stage;
use crate::step::{Line, Login, Opening, Port, Step, Until};

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
            Step::Send { actor, times, xml } => {
                self.repeat(*times, "send", actor, xml, OPEN_WITHIN)
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
            Step::Command { arguments, succeeds, says } => self.command(arguments, *succeeds, says),
        }
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
            "priority": login.priority,
            "refused": refused,
        }))
    }

    fn open(&self, actor: &str, opening: &Opening) -> Result<Value, String> {
        let raw = self.scenario.world.raws.iter().find(|raw| raw.name == actor);
        let raw = raw.ok_or_else(|| format!("world.toml knows no raw peer `{actor}`"))?;
        let files = self.stage.raw_certificates.get(actor);
        let shape = self.stage.gatehouse.as_ref().map_or(Shape::None, |us| us.shape());
        let (servers, clients) = crate::gatehouse::addresses(&self.stage.block, shape);
        let (host, port, namespace, tls) = match opening.port {
            Port::Client => (clients.ip(), port::C2S, "jabber:client", "starttls"),
            Port::Server => (servers.ip(), port::S2S, "jabber:server", "starttls"),
            Port::ServerDirectTls => {
                (servers.ip(), port::S2S_DIRECT_TLS, "jabber:server", "direct")
            }
        };
        let until = match opening.until {
            Until::Header => "features",
            Until::Tls => "tls",
            Until::Authenticated => "authenticated",
        };
        Ok(json!({
            "do": "open", "actor": actor, "host": host, "port": port, "namespace": namespace,
            "tls": tls, "alpn": "xmpp-server", "until": until,
            "from": raw.claims.as_ref().unwrap_or(&raw.domain), "to": opening.to,
            "certificate": files.map(|files| &files.certificate),
            "key": files.map(|files| &files.key),
        }))
    }

    fn repeat(
        &mut self,
        times: u32,
        what: &str,
        actor: &str,
        xml: &str,
        within: Duration,
    ) -> Result<(), String> {
        let all: String = (1..=times).map(|n| xml.replace("{n}", &n.to_string())).collect();
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

    fn command(&self, arguments: &[String], succeeds: bool, says: &[String]) -> Result<(), String> {
        let gatehouse = self.stage.gatehouse.as_ref().ok_or("there is nobody of ours")?;
        let arguments: Vec<String> =
            arguments.iter().map(|one| self.fill(one, gatehouse.config())).collect();
        let (success, output) = said(gatehouse.command(&arguments))?;
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
