//! Test nodes in the place of cores, and a partner that shares no code with what it tests: real edges
//! stand between them, and everything crosses real TLS.
//!
//! Several cores of one domain wait for clustering; the edge must be ready for them today. A node is
//! the product's own end of the trunk with a test behind it; it writes down what it hears, and knows
//! what belongs to it.

mod ledger;
mod load;
mod node;
mod order;
pub(crate) mod partner;
pub(crate) mod text;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};

use crate::authority::Files;
use crate::clock::{now, poll};
use crate::failure::Failure;

use self::ledger::Ledger;
use self::load::{Sessions, Talk};
use self::node::Node;
use self::partner::{Dialog, Outcome, Partner};

pub(crate) use self::node::{Links, name};
pub(crate) use self::order::{Order, order};
pub(crate) use self::partner::Ends;

/// How long a phase of a play may take.
const PHASE_WITHIN: Duration = Duration::from_secs(40);
/// Requests under way at a time.
const WINDOW: usize = 100;
/// After so many new sessions at one node all edges have moved: they are asked in turn.
const IN_A_ROW: usize = 10;
/// What the nodes begin, in turn.
const METHODS: [&str; 2] = ["INVITE", "SUBSCRIBE"];

/// Where everybody is.
pub(crate) struct Place<'a> {
    /// Each node's directory with its trunk certificate.
    pub(crate) directories: Vec<PathBuf>,
    /// The nodes' way to the edges.
    pub(crate) links: Links,
    /// The partner's.
    pub(crate) ends: Ends,
    /// The partner's certificate.
    pub(crate) files: &'a Files,
    /// Where the partner keeps what it receives.
    pub(crate) record: PathBuf,
}

/// The nodes, the partner, and what is known of their dialogs.
pub(crate) struct Lab {
    nodes: Vec<Node>,
    ledger: Arc<Mutex<Ledger>>,
    partner: Partner,
    links: Links,
    remote: String,
    dice: Dice,
    /// How many dialogs were begun, for the next Call-ID.
    begun: usize,
    /// The sequence number of the partner's next request in a dialog.
    sequence: u32,
    talk: Option<Talk>,
    sessions: Option<Sessions>,
    told: Vec<String>,
    runtime: Runtime,
}

impl Lab {
    /// Starts the nodes and the partner. The edges run already.
    pub(crate) fn start(place: Place<'_>) -> Result<Self, Failure> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Failure::world(format!("cannot make a runtime: {error}")))?;
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let mut nodes = Vec::new();
        for (number, directory) in place.directories.iter().enumerate() {
            let mut node = Node::new(number, directory, &place.links, &ledger)?;
            node.start()?;
            nodes.push(node);
        }
        let record = File::create(&place.record).map_err(Failure::io("make", &place.record))?;
        let remote = place.ends.remote.clone();
        let partner = Partner::start(place.ends, place.files, record, runtime.handle())?;
        Ok(Self {
            nodes,
            ledger,
            partner,
            links: place.links,
            remote,
            dice: Dice(7),
            begun: 0,
            sequence: 1,
            talk: None,
            sessions: None,
            told: Vec::new(),
            runtime,
        })
    }

    /// Waits until every node that runs is linked with every edge, and the partner connected to it.
    pub(crate) fn await_links(&self, within: Duration) -> Result<(), Failure> {
        let all = || {
            let linked = self.nodes.iter().all(Node::is_linked);
            (linked && self.partner.line_count() == self.links.edges.len()).then_some(())
        };
        let late = || Failure::world(format!("nodes and partner are not linked after {within:?}"));
        poll(within, all).ok_or_else(late)
    }

    /// What was counted, in words, for whoever reads the outcome.
    pub(crate) fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    /// Whether a play means a node by this.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn find(&self, wanted: &str) -> Option<usize> {
        (0..self.nodes.len()).find(|number| name(*number) == wanted)
    }

    fn node(&mut self, wanted: &str) -> Result<&mut Node, String> {
        let found = self.find(wanted).and_then(|number| self.nodes.get_mut(number));
        found.ok_or_else(|| format!("there is no node `{wanted}`"))
    }

    /// Ends a node like `kill -9`.
    pub(crate) fn kill(&mut self, name: &str) -> Result<(), String> {
        let done = self.node(name)?.kill();
        self.event();
        done.then_some(()).ok_or_else(|| format!("{name} does not run"))
    }

    /// Starts a node again.
    pub(crate) fn revive(&mut self, name: &str) -> Result<(), String> {
        self.node(name)?.start().map_err(|failure| failure.to_string())
    }

    /// Makes a node silent, or lets it speak again.
    pub(crate) fn silence(&mut self, name: &str, is_silent: bool) -> Result<(), String> {
        let done = self.node(name)?.silence(is_silent);
        if is_silent {
            self.event();
        }
        done.then_some(()).ok_or_else(|| format!("{name} does not run"))
    }

    /// From now on the time counts within which new sessions must be served again.
    fn event(&self) {
        if let Some(sessions) = &self.sessions {
            sessions.event();
        }
    }

    /// Does what a line of a play says.
    pub(crate) fn perform(&mut self, order: &Order) -> Result<(), String> {
        match order {
            Order::Begin { count, node, half } => self.begin(*count, node.as_deref(), *half),
            Order::AnswerRest => self.answer_rest(),
            Order::Talk { node, per_second } => self.start_talk(node.as_deref(), *per_second),
            Order::StopTalk { interrupted } => self.stop_talk(*interrupted),
            Order::End => self.end(),
            Order::Alter => self.alter(),
            Order::Ask { per_second } => {
                let edges = self.links.edges.len();
                self.sessions = Some(Sessions::start(&self.partner, edges, *per_second));
                Ok(())
            }
            Order::StopAsking { gap } => self.stop_asking(*gap),
            Order::Moved { node, within } => self.moved(node, *within),
            Order::Stay { node, time } => self.stay(node, *time),
            Order::Refused => self.refused(),
            Order::Served { within } => self.served(*within),
        }
    }

    /// Each node begins so many dialogs, through random edges; with `half`, every other one is not
    /// answered yet.
    fn begin(&mut self, count: usize, only: Option<&str>, half: bool) -> Result<(), String> {
        let only = match only {
            Some(name) => Some(self.find(name).ok_or_else(|| format!("there is no `{name}`"))?),
            None => None,
        };
        let mut left: Vec<usize> = (0..self.nodes.len())
            .filter(|node| only.is_none_or(|only| only == *node))
            .flat_map(|node| std::iter::repeat_n(node, count))
            .collect();
        let (before, total) = (self.partner.dialog_count(), left.len());
        let answered_before = self.ledger.lock().answered_once();
        self.partner.hold(half);
        let partner = self.partner.clone();
        let heard = || partner.dialog_count() - before;
        let late = |begun: usize| format!("the partner heard {} of {begun}", heard());
        let mut begun = 0;
        // In random order, never more than a window of them that the partner has not heard.
        while !left.is_empty() {
            let number = left.swap_remove(self.dice.roll(left.len()));
            let edge = self.dice.roll(self.links.edges.len());
            let method = METHODS.get(self.dice.roll(METHODS.len())).copied().unwrap_or("INVITE");
            self.begun += 1;
            let call_id = format!("dialog{:05}", self.begun);
            let (edge, _) = self.links.edges.get(edge).ok_or("there is no edge")?;
            let node = self.nodes.get(number).ok_or("there is no node")?;
            let room = || (begun < heard() + WINDOW).then_some(());
            poll(PHASE_WITHIN, room).ok_or_else(|| late(begun))?;
            let sent = node.begin(edge, (method, &call_id), &self.remote);
            if !sent.map_err(|failure| failure.to_string())? {
                return Err(format!("{} has no room for {WINDOW} messages", name(number)));
            }
            begun += 1;
        }
        poll(PHASE_WITHIN, || (heard() == total).then_some(())).ok_or_else(|| late(begun))?;
        self.partner.hold(false);
        let wanted = answered_before + total - self.partner.held_count();
        let answered = || self.ledger.lock().answered_once();
        poll(PHASE_WITHIN, || (answered() == wanted).then_some(()))
            .ok_or_else(|| format!("the nodes heard {} of {wanted} answers", answered()))?;
        self.sound()
    }

    /// The answers that were held back, through random edges: each must find its transaction.
    fn answer_rest(&mut self) -> Result<(), String> {
        let held = self.partner.take_held();
        let wanted = self.ledger.lock().answered_once() + held.len();
        if held.is_empty() {
            return Err("no answer is held back".to_owned());
        }
        for (number, answer) in held.iter().enumerate() {
            let edge = self.dice.roll(self.links.edges.len());
            if !self.runtime.block_on(self.partner.write(edge, answer.clone())) {
                return Err("there is no connection to an edge".to_owned());
            }
            if number % WINDOW == 0 {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let answered = || self.ledger.lock().answered_once();
        poll(PHASE_WITHIN, || (answered() == wanted).then_some(()))
            .ok_or_else(|| format!("{} of {wanted} transactions were answered once", answered()))?;
        self.told.push(format!(
            "{} answers given after the restart, through an edge that asked for none of them: all found \
             their transaction",
            held.len()
        ));
        self.sound()
    }

    fn start_talk(&mut self, node: Option<&str>, per_second: u32) -> Result<(), String> {
        let mut dialogs = self.partner.dialogs();
        if let Some(name) = node {
            let node = self.find(name).ok_or_else(|| format!("there is no `{name}`"))?;
            let ledger = self.ledger.lock();
            dialogs.retain(|dialog| ledger.owner(&dialog.call_id) == Some(node));
        }
        if dialogs.is_empty() {
            return Err("there are no such dialogs".to_owned());
        }
        self.sequence += 1_000_000;
        let edges = self.links.edges.len();
        self.talk = Some(Talk::start(&self.partner, dialogs, edges, per_second, self.sequence));
        Ok(())
    }

    fn stop_talk(&mut self, interrupted: bool) -> Result<(), String> {
        let talk = self.talk.take().ok_or("nobody talks")?;
        let count = self.runtime.block_on(talk.stop());
        self.told.push(format!(
            "{} requests in dialogs meanwhile: {} answered 200, {} answered otherwise, {} without an \
             answer, {} without a connection",
            count.sent(),
            count.good,
            count.bad,
            count.silent,
            count.unsent
        ));
        if count.good == 0 || (!interrupted && count.good != count.sent()) {
            return Err(format!("not all were answered with 200: {count:?}"));
        }
        // A 481 for a good token would be a dialog that was lost.
        if count.gone > 0 {
            return Err(format!("{} requests in living dialogs were answered 481", count.gone));
        }
        self.sound()
    }

    /// One request in each dialog, through random edges: all are answered, each by the node whose
    /// dialog it is.
    fn end(&mut self) -> Result<(), String> {
        let dialogs = self.partner.dialogs();
        self.sequence += 1_000_000;
        let number = self.sequence;
        let before = self.ledger.lock().heard().0;
        let mut asked = Vec::new();
        for dialog in &dialogs {
            let method = if dialog.method == "INVITE" { "BYE" } else { "NOTIFY" };
            asked.push((dialog.clone(), method, self.dice.roll(self.links.edges.len())));
        }
        let outcomes = self.ask_all(asked.iter().map(|(dialog, method, edge)| Question {
            edge: *edge,
            dialog: dialog.clone(),
            method,
            number,
            contact: None,
        }));
        let good = |outcome: &&Outcome| matches!(outcome, Outcome::Answered(200, _));
        let answered = outcomes.iter().filter(good).count();
        let ledger = self.ledger.lock();
        let heard = dialogs.iter().filter(|one| ledger.has_heard(&one.call_id, number)).count();
        let new = ledger.heard().0 - before;
        drop(ledger);
        self.told.push(format!(
            "{} dialogs ended by the partner through random edges: {heard} heard by the node that began \
             them, {answered} answered 200",
            dialogs.len()
        ));
        if answered != dialogs.len() || heard != dialogs.len() || new != dialogs.len() {
            return Err(format!(
                "of {}: heard {heard} ({new}), answered {answered}",
                dialogs.len()
            ));
        }
        self.sound()
    }

    /// Every bit of a token of each node, and tokens that nobody sealed: each is answered 481, and no
    /// node hears of it.
    fn alter(&mut self) -> Result<(), String> {
        let dialogs = self.partner.dialogs();
        self.sequence += 1_000_000;
        let before = self.ledger.lock().heard();
        let mut altered = Vec::new();
        for node in 0..self.nodes.len() {
            let ledger = self.ledger.lock();
            let found = dialogs.iter().find(|one| ledger.owner(&one.call_id) == Some(node));
            let dialog = found.ok_or("a node has no dialog")?;
            let (uri, token) = token(&dialog.contact).ok_or("a Contact has no token")?;
            let forged = forgeries(token);
            altered.extend(forged.into_iter().map(|forged| Question {
                edge: self.dice.roll(self.links.edges.len()),
                dialog: dialog.clone(),
                method: "MESSAGE",
                number: self.sequence,
                contact: Some(uri.replacen(token, &forged, 1)),
            }));
        }
        let count = altered.len();
        let outcomes = self.ask_all(altered.into_iter());
        let gone = |outcome: &&Outcome| matches!(outcome, Outcome::Answered(481, _));
        let refused = outcomes.iter().filter(gone).count();
        let after = self.ledger.lock().heard();
        self.told.push(format!(
            "{count} tokens with one bit altered, cut, made longer or made up: {refused} answered 481, {} \
             delivered",
            after.0 - before.0
        ));
        if refused != count || after != before {
            let other = outcomes.iter().find(|outcome| !gone(outcome));
            return Err(format!("{refused} of {count} were answered 481; another one: {other:?}"));
        }
        self.sound()
    }

    fn ask_all(&self, questions: impl Iterator<Item = Question>) -> Vec<Outcome> {
        let questions: Vec<_> = questions.collect();
        self.runtime.block_on(load::ask_all(&self.partner, questions, WINDOW))
    }

    fn stop_asking(&mut self, gap: Duration) -> Result<(), String> {
        let sessions = self.sessions.take().ok_or("nobody asks for sessions")?;
        let count = self.runtime.block_on(sessions.stop());
        self.told.push(format!(
            "{} new sessions: {} answered 200, {} refused with 503, {} without an answer; the longest time \
             without one {} ms; the last that failed was sent {} ms after its event",
            count.sent,
            count.good,
            count.refused,
            count.silent,
            count.longest.as_millis(),
            count.late.as_millis()
        ));
        if count.other > 0 {
            return Err(format!("{} were answered neither 200 nor 503", count.other));
        }
        if count.good == 0 || count.longest >= gap || count.late >= gap {
            return Err(format!("new sessions were away for longer than {gap:?}: {count:?}"));
        }
        self.sound()
    }

    /// New sessions reach this node, so many in a row that every edge sends them there.
    fn moved(&mut self, name: &str, within: Duration) -> Result<(), String> {
        let node = self.find(name).ok_or_else(|| format!("there is no `{name}`"))?;
        let begin = now();
        let taken = || {
            let ledger = self.ledger.lock();
            let last = ledger.sessions.iter().rev().take(IN_A_ROW);
            let here = last.filter(|(at, taker)| *at >= begin && *taker == node);
            (here.count() == IN_A_ROW).then_some(())
        };
        poll(within, taken)
            .ok_or_else(|| format!("new sessions do not go to {name} after {within:?}"))?;
        let took = now() - begin;
        self.told.push(format!("new sessions at {name} after {:.1} s", took.as_secs_f64()));
        Ok(())
    }

    /// For so long all new sessions go to this node.
    fn stay(&mut self, name: &str, time: Duration) -> Result<(), String> {
        let node = self.find(name).ok_or_else(|| format!("there is no `{name}`"))?;
        let begin = now();
        let strayed = || {
            let ledger = self.ledger.lock();
            let since = ledger.sessions.iter().rev().take_while(|(at, _)| *at >= begin);
            since.map(|(_, taker)| *taker).find(|taker| *taker != node)
        };
        if let Some(other) = poll(time, strayed) {
            return Err(format!("a new session went to {}", self::name(other)));
        }
        let ledger = self.ledger.lock();
        let count = ledger.sessions.iter().rev().take_while(|(at, _)| *at >= begin).count();
        drop(ledger);
        if count == 0 {
            return Err("there was no new session at all".to_owned());
        }
        self.told.push(format!("{count} new sessions in {} s, all at {name}", time.as_secs()));
        Ok(())
    }

    /// A new session through each edge is refused at once, with a time to try again.
    fn refused(&self) -> Result<(), String> {
        for edge in 0..self.links.edges.len() {
            let call_id = format!("refused{edge}");
            let answer = self.runtime.block_on(self.partner.ask_new(edge, &call_id));
            if answer != Outcome::Answered(503, true) {
                return Err(format!("instead of 503 with Retry-After: {answer:?}"));
            }
        }
        Ok(())
    }

    /// New sessions are taken again.
    fn served(&self, within: Duration) -> Result<(), String> {
        let mut number = 0;
        let ask = || {
            number += 1;
            let call_id = format!("served{number}");
            let asked = self.partner.ask_new(number % 2, &call_id);
            (self.runtime.block_on(asked) == Outcome::Answered(200, false)).then_some(())
        };
        poll(within, ask).ok_or_else(|| format!("no new session was served within {within:?}"))
    }

    /// Nothing has gone astray so far.
    fn sound(&self) -> Result<(), String> {
        self.partner.recorded()?;
        let ledger = self.ledger.lock();
        let (_, twice) = ledger.heard();
        if ledger.astray == 0 && twice == 0 {
            return Ok(());
        }
        let shown = ledger.shown.join("\n");
        Err(format!("{} went astray, {twice} came twice:\n{shown}", ledger.astray))
    }

    /// The closing sentence, if there is anything to close.
    pub(crate) fn close(&mut self) -> Result<(), String> {
        if let Some(sessions) = self.sessions.take() {
            let _count = self.runtime.block_on(sessions.stop());
        }
        if let Some(talk) = self.talk.take() {
            let _count = self.runtime.block_on(talk.stop());
        }
        let dialogs = self.partner.dialogs();
        let by_node: Vec<_> = (0..self.nodes.len())
            .map(|node| {
                let ledger = self.ledger.lock();
                dialogs.iter().filter(|one| ledger.owner(&one.call_id) == Some(node)).count()
            })
            .map(|count| count.to_string())
            .collect();
        let (calls, surplus) = (self.partner.calls(), self.partner.surplus());
        let astray = self.ledger.lock().astray;
        self.told.push(format!(
            "{} dialogs by node: {}; connections that edges opened: {calls}; answers too late for \
             anybody: {surplus}; mis-deliveries: {astray}",
            dialogs.len(),
            by_node.join(", ")
        ));
        for node in &mut self.nodes {
            node.kill();
        }
        self.sound()
    }
}

/// What the partner asks in a dialog.
pub(crate) struct Question {
    edge: usize,
    dialog: Dialog,
    method: &'static str,
    number: u32,
    contact: Option<String>,
}

/// The address in a Contact, and the token in it.
fn token(contact: &str) -> Option<(&str, &str)> {
    let (token, _) = contact.strip_prefix("sip:")?.split_once('@')?;
    (token.len() > 40).then_some((contact, token))
}

/// The token with each of its bits altered in turn, and others that nobody sealed.
fn forgeries(token: &str) -> Vec<String> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut all = Vec::new();
    for (at, byte) in token.bytes().enumerate() {
        let Some(value) = ALPHABET.iter().position(|one| *one == byte) else { continue };
        for bit in 0..6 {
            let Some(other) = ALPHABET.get(value ^ (1 << bit)) else { continue };
            let mut forged = token.as_bytes().to_vec();
            if let Some(place) = forged.get_mut(at) {
                *place = *other;
            }
            all.extend(String::from_utf8(forged));
        }
    }
    all.extend((1..8).filter_map(|cut| token.get(cut..).map(str::to_owned)));
    all.extend((1..8).filter_map(|cut| token.get(..token.len() - cut).map(str::to_owned)));
    all.extend(["A", "AA", "AAAA"].map(|more| format!("{token}{more}")));
    all.extend(["AAAA".to_owned(), "alice".to_owned(), "A".repeat(token.len()), "_".repeat(200)]);
    all.push(token.chars().rev().collect());
    all
}

/// Draws that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let sides = u64::try_from(sides.max(1)).unwrap_or(1);
        usize::try_from((self.0 >> 33) % sides).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_a_token_is_altered_once() {
        let token = "AbC-_9".repeat(8);
        let all = forgeries(&token);
        let mut distinct = all.clone();
        distinct.sort();
        distinct.dedup();
        assert!(distinct.len() >= token.len() * 6 && !all.contains(&token));
        assert_eq!(super::token("sip:short@x"), None);
        let contact = format!("sip:{token}@sip.ours.example:5061");
        assert_eq!(super::token(&contact).unwrap().1, token);
    }
}
