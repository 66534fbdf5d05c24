//! What clients can do, learned once for each kind of client (XEP-0115).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_types::Jid;
use gatehouse_xmpp::{Element, ns};
use parking_lot::Mutex;

use super::CAPS;
use super::verification::is_proved;

/// Kinds of clients remembered.
const KINDS_MAX: usize = 1000;
/// Questions under way.
const ASKED_MAX: usize = 500;
/// Of them, those to clients of one user: nobody may keep the others from being asked.
const ASKED_OF_ONE_MAX: usize = 5;
/// Who waits for one answer.
const WAITING_MAX: usize = 500;
/// A question that was not answered for so long may be asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Users of other domains whose clients are remembered.
const STRANGERS_MAX: usize = 20_000;
/// Clients of one of them.
const RESOURCES_MAX: usize = 10;
/// Nodes that one kind of client wants to hear of, and bytes of one name.
const WANTED_MAX: usize = 100;
const WANTED_BYTES_MAX: usize = 256;
const HASH_BYTES_MAX: usize = 32;
const VER_BYTES_MAX: usize = 128;
const NODE_BYTES_MAX: usize = 256;

/// The kind of a client: what `ver` stands for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Kind {
    hash: String,
    ver: String,
    /// With `ver`, what to ask for.
    node: String,
}

impl Kind {
    /// What the presence of a client says.
    pub(super) fn of(presence: &Element) -> Option<Arc<Self>> {
        let caps = presence.children().find(|child| child.is("c", CAPS))?;
        let (hash, ver) = (caps.attr("hash")?, caps.attr("ver")?);
        let node = caps.attr("node")?;
        let fits = hash.len() <= HASH_BYTES_MAX && ver.len() <= VER_BYTES_MAX;
        let fits = fits && node.len() <= NODE_BYTES_MAX;
        let [hash, ver, node] = [hash, ver, node].map(str::to_owned);
        fits.then(|| Arc::new(Self { hash, ver, node }))
    }

    /// The node of service discovery that tells what it can do (XEP-0115, section 6.2).
    pub(super) fn node(&self) -> String {
        format!("{}#{}", self.node, self.ver)
    }
}

/// Names of nodes that a kind of client wants to hear of.
pub(super) type Wanted = Arc<[String]>;

/// What is known of a kind.
pub(super) enum Knowledge {
    /// It wants to hear of these.
    Wants(Wanted),
    /// Ask the client; who asked is told when it answers.
    Ask,
    /// Somebody was asked.
    Waits,
}

/// Who is to be told of what an account publishes, once it is known what its client wants.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Pair {
    /// Bare.
    pub(super) account: Jid,
    /// Full.
    pub(super) client: Jid,
}

/// What all clients can do.
#[derive(Debug, Default)]
pub(crate) struct Capabilities(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// What was verified: true of everybody who says the same.
    kinds: HashMap<Arc<Kind>, (Wanted, u64)>,
    /// Counts uses, so that the kind that was not used for longest is forgotten.
    uses: u64,
    asked: HashMap<String, Question>,
    waiting: HashMap<Arc<Kind>, Waiting>,
    strangers: HashMap<Jid, Vec<(Jid, Arc<Kind>)>>,
}

#[derive(Debug)]
struct Question {
    client: Jid,
    kind: Arc<Kind>,
    at: Instant,
}

#[derive(Debug)]
struct Waiting {
    pairs: Vec<Pair>,
    /// The client that was asked last.
    asked: Jid,
    asked_at: Instant,
}

impl Waiting {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.asked_at) < ANSWER_WITHIN
    }
}

impl Capabilities {
    /// What `kind` wants. If that is not known, `pair` gets it once it is.
    pub(super) fn look_up(&self, kind: &Arc<Kind>, pair: Pair, now: Instant) -> Knowledge {
        let mut inner = self.0.lock();
        inner.uses += 1;
        let uses = inner.uses;
        if let Some((wanted, used)) = inner.kinds.get_mut(kind) {
            *used = uses;
            return Knowledge::Wants(Arc::clone(wanted));
        }
        let asked = pair.client.clone();
        let of_one = inner.waiting.values().filter(|it| it.is_fresh(now)).map(|it| &it.asked);
        let may_ask = of_one.filter(|it| it.same_bare(&asked)).count() < ASKED_OF_ONE_MAX;
        if let Some(waiting) = inner.waiting.get_mut(kind) {
            if waiting.pairs.len() < WAITING_MAX && !waiting.pairs.contains(&pair) {
                waiting.pairs.push(pair);
            }
            if waiting.is_fresh(now) || !may_ask {
                return Knowledge::Waits;
            }
            (waiting.asked, waiting.asked_at) = (asked, now);
            return Knowledge::Ask;
        }
        if !may_ask {
            return Knowledge::Waits;
        }
        if inner.waiting.len() >= ASKED_MAX {
            inner.waiting.retain(|_, waiting| waiting.is_fresh(now));
            if inner.waiting.len() >= ASKED_MAX {
                return Knowledge::Waits;
            }
        }
        let waiting = Waiting { pairs: vec![pair], asked, asked_at: now };
        inner.waiting.insert(Arc::clone(kind), waiting);
        Knowledge::Ask
    }

    /// A question goes to `client`. False if too many are under way.
    pub(super) fn asks(&self, id: &str, client: &Jid, kind: &Arc<Kind>, now: Instant) -> bool {
        let mut inner = self.0.lock();
        if inner.asked.len() >= ASKED_MAX {
            inner
                .asked
                .retain(|_, question| now.saturating_duration_since(question.at) < ANSWER_WITHIN);
            if inner.asked.len() >= ASKED_MAX {
                return false;
            }
        }
        let question = Question { client: client.clone(), kind: Arc::clone(kind), at: now };
        inner.asked.insert(id.to_owned(), question);
        true
    }

    /// An answer to `id` from `client`: who waited for it, and what is wanted. `None` if nobody asked
    /// or the answer is not what the client's presence said.
    pub(super) fn answered(
        &self,
        id: &str,
        client: &Jid,
        info: Option<&Element>,
    ) -> Option<(Vec<Pair>, Wanted)> {
        let mut inner = self.0.lock();
        if inner.asked.get(id)?.client != *client {
            return None;
        }
        let kind = inner.asked.remove(id)?.kind;
        let info = info.filter(|info| info.is("query", ns::DISCO_INFO))?;
        // Another client of the kind may prove it, when it is seen and this one's time is over.
        if !is_proved(info, &kind.hash, &kind.ver) {
            return None;
        }
        let wanted = wanted(info);
        if inner.kinds.len() >= KINDS_MAX {
            let oldest = inner.kinds.iter().min_by_key(|(_, (_, used))| *used);
            let oldest = oldest.map(|(kind, _)| Arc::clone(kind));
            if let Some(oldest) = oldest {
                inner.kinds.remove(&oldest);
            }
        }
        let uses = inner.uses;
        inner.kinds.insert(Arc::clone(&kind), (Arc::clone(&wanted), uses));
        let waiting = inner.waiting.remove(&kind);
        Some((waiting.map(|waiting| waiting.pairs).unwrap_or_default(), wanted))
    }

    /// A client of another domain is available.
    pub(super) fn seen(&self, client: &Jid, kind: &Arc<Kind>) {
        let mut inner = self.0.lock();
        let bare = client.to_bare();
        if inner.strangers.len() >= STRANGERS_MAX && !inner.strangers.contains_key(&bare) {
            // Any of them makes room: who has gone without a word would stay for ever, and who is
            // there says again what it is with its next presence.
            metrics::counter!("gatehouse_caps_not_kept_total").increment(1);
            if let Some(any) = inner.strangers.keys().next().cloned() {
                inner.strangers.remove(&any);
            }
        }
        let clients = inner.strangers.entry(bare).or_default();
        if let Some((_, known)) = clients.iter_mut().find(|(known, _)| known == client) {
            *known = Arc::clone(kind);
            return;
        }
        if clients.len() >= RESOURCES_MAX {
            clients.remove(0);
        }
        clients.push((client.clone(), Arc::clone(kind)));
    }

    /// It is not any more.
    pub(super) fn gone(&self, client: &Jid) {
        let mut inner = self.0.lock();
        let bare = client.to_bare();
        if let Some(clients) = inner.strangers.get_mut(&bare) {
            clients.retain(|(known, _)| known != client);
            if clients.is_empty() {
                inner.strangers.remove(&bare);
            }
        }
    }

    /// The available clients of a user of another domain.
    pub(super) fn clients_of(&self, bare: &Jid) -> Vec<(Jid, Arc<Kind>)> {
        self.0.lock().strangers.get(bare).cloned().unwrap_or_default()
    }
}

fn wanted(info: &Element) -> Wanted {
    info.children()
        .filter(|child| child.is("feature", ns::DISCO_INFO))
        .filter_map(|feature| feature.attr("var")?.strip_suffix("+notify"))
        .filter(|node| node.len() <= WANTED_BYTES_MAX)
        .take(WANTED_MAX)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash of a client with one feature, `urn:x+notify`.
    fn info() -> Element {
        "<query xmlns='http://jabber.org/protocol/disco#info'>\
         <identity category='client' type='pc'/><feature var='urn:x+notify'/></query>"
            .parse()
            .unwrap()
    }

    fn kind(ver: &str) -> Arc<Kind> {
        Arc::new(Kind { hash: "sha-1".into(), ver: ver.into(), node: "n".into() })
    }

    fn proved() -> Arc<Kind> {
        use base64::Engine as _;
        let text = "client/pc//<urn:x+notify<";
        let algorithm = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
        let digest = aws_lc_rs::digest::digest(algorithm, text.as_bytes());
        kind(&base64::engine::general_purpose::STANDARD.encode(digest))
    }

    fn pair(client: &str) -> Pair {
        Pair { account: "a@b.example".parse().unwrap(), client: client.parse().unwrap() }
    }

    #[test]
    fn one_is_asked_for_all_of_its_kind() {
        let (caps, now, kind) = (Capabilities::default(), gatehouse_net::now(), proved());
        let (one, two) = (pair("c@d.example/1"), pair("c@d.example/2"));
        assert!(matches!(caps.look_up(&kind, one.clone(), now), Knowledge::Ask));
        assert!(caps.asks("q", &one.client, &kind, now));
        assert!(matches!(caps.look_up(&kind, two.clone(), now), Knowledge::Waits));
        // Nobody else can answer.
        assert!(caps.answered("q", &two.client, Some(&info())).is_none());
        assert!(caps.answered("p", &one.client, Some(&info())).is_none());
        let (pairs, wanted) = caps.answered("q", &one.client, Some(&info())).unwrap();
        assert_eq!((pairs, &wanted[..]), (vec![one.clone(), two], &["urn:x".to_owned()][..]));
        assert!(matches!(caps.look_up(&kind, one, now), Knowledge::Wants(_)));
    }

    #[test]
    fn a_lie_is_not_kept_and_asked_again_later() {
        let (caps, now, kind) = (Capabilities::default(), gatehouse_net::now(), kind("lie"));
        let one = pair("c@d.example/1");
        assert!(matches!(caps.look_up(&kind, one.clone(), now), Knowledge::Ask));
        assert!(caps.asks("q", &one.client, &kind, now));
        assert!(caps.answered("q", &one.client, Some(&info())).is_none());
        assert!(matches!(caps.look_up(&kind, one.clone(), now), Knowledge::Waits));
        let later = now + ANSWER_WITHIN;
        assert!(matches!(caps.look_up(&kind, one, later), Knowledge::Ask));
    }

    #[test]
    fn nobody_uses_up_the_questions_of_others() {
        let (caps, now) = (Capabilities::default(), gatehouse_net::now());
        let asks = |client: &str, ver: usize, at| {
            matches!(caps.look_up(&kind(&ver.to_string()), pair(client), at), Knowledge::Ask)
        };
        let asked = (0..ASKED_MAX).filter(|ver| asks(&format!("c@d.example/{ver}"), *ver, now));
        assert_eq!(asked.count(), ASKED_OF_ONE_MAX);
        assert!(asks("e@d.example/1", ASKED_MAX, now));
        // What was not answered in time may be asked again, no faster.
        let later = now + ANSWER_WITHIN;
        let asked = (0..ASKED_MAX).filter(|ver| asks("c@d.example/1", *ver, later));
        assert_eq!(asked.count(), ASKED_OF_ONE_MAX);
    }

    #[test]
    fn who_comes_last_is_kept_though_many_never_said_that_they_left() {
        let caps = Capabilities::default();
        let client = |number: usize| format!("c{number}@d.example/r").parse::<Jid>().unwrap();
        for number in 0..=STRANGERS_MAX {
            caps.seen(&client(number), &kind("v"));
        }
        assert_eq!(caps.0.lock().strangers.len(), STRANGERS_MAX);
        assert_eq!(caps.clients_of(&client(STRANGERS_MAX).to_bare()).len(), 1);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (caps, now) = (Capabilities::default(), gatehouse_net::now());
        for number in 0..ASKED_MAX + 10 {
            let client = pair(&format!("c{number}@d.example/r"));
            let kind = kind(&number.to_string());
            caps.look_up(&kind, client.clone(), now);
            assert_eq!(
                caps.asks(&number.to_string(), &client.client, &kind, now),
                number < ASKED_MAX
            );
        }
        assert_eq!(caps.0.lock().waiting.len(), ASKED_MAX);
        for number in 0..RESOURCES_MAX + 5 {
            let client = format!("c@d.example/{number}").parse().unwrap();
            caps.seen(&client, &kind("v"));
        }
        let bare: Jid = "c@d.example".parse().unwrap();
        assert_eq!(caps.clients_of(&bare).len(), RESOURCES_MAX);
        let last = format!("c@d.example/{}", RESOURCES_MAX + 4).parse().unwrap();
        caps.gone(&last);
        assert_eq!(caps.clients_of(&bare).len(), RESOURCES_MAX - 1);
    }
}
