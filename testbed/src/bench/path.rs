use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use crate::bench::fanout;
use crate::bench::flow::Flow;
use crate::bench::subject::Subject;
use crate::bench::usage::Usage;
use crate::bench::wire::{Wire, broken};
use crate::clock::now;
use crate::failure::Failure;

/// A server that takes longer than this for one run is broken, not slow.
const RUN_WITHIN: Duration = Duration::from_secs(20);
/// For what a server does behind the driver's back, before memory is read.
pub(crate) const SETTLE: Duration = Duration::from_millis(300);
/// Of a run's messages one in so many goes ahead of it, unmeasured.
pub(crate) const WARM_UP_SHARE: u64 = 10;

/// What is measured.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, clap::ValueEnum)]
pub(crate) enum Path {
    /// Streams from the partner, opened with SASL EXTERNAL and kept idle.
    Streams,
    /// Sessions of users, logged in and kept idle.
    Sessions,
    /// From one user to another.
    C2s,
    /// The same where both clients count (XEP-0198), and the author asks after each write. Written for
    /// `ours` only.
    C2sManaged,
    /// From the partner to a user.
    S2sIn,
    /// From a user to the partner.
    S2sOut,
    /// The same from a user whose client counts, and asks after each write.
    S2sOutManaged,
    /// One user's presence to many contacts.
    Presence,
    /// SIP MESSAGE from the partner through the edge to a core node, and its answer back.
    SipIn,
    /// SIP MESSAGE from a core node through the edge to the partner, and its answer back.
    SipOut,
    /// SIP connections of the partner over TLS, kept idle.
    SipIdle,
    /// SUBSCRIBE of partners' users, allowed, notified, and kept. Once, whatever the number of runs.
    SipSubscriptions,
    /// IM of a user through the gateway to contacts at SIP partners, each message stored until it is
    /// answered.
    SipMessages,
}

impl Path {
    /// Of what the CPU time is.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Streams => "stream",
            Self::Sessions => "log-in",
            Self::C2s
            | Self::C2sManaged
            | Self::S2sIn
            | Self::S2sOut
            | Self::S2sOutManaged
            | Self::SipMessages => "message",
            Self::Presence => "delivery",
            Self::SipIn | Self::SipOut => "MESSAGE",
            Self::SipIdle => "connect",
            Self::SipSubscriptions => "SUBSCRIBE",
        }
    }

    /// Whether it is a message from one connection to another, and nothing that waits for a disk.
    pub(crate) fn is_each_message(self) -> bool {
        match self {
            Self::C2s
            | Self::C2sManaged
            | Self::S2sIn
            | Self::S2sOut
            | Self::S2sOutManaged
            | Self::SipIn
            | Self::SipOut => true,
            Self::Streams
            | Self::Sessions
            | Self::SipMessages
            | Self::Presence
            | Self::SipIdle
            | Self::SipSubscriptions => false,
        }
    }

    /// Whether it is about SIP: then only those are measured that speak it, and of us the edge alone.
    pub(crate) fn is_sip(self) -> bool {
        self.has_own_world() || matches!(self, Self::SipIn | Self::SipOut | Self::SipIdle)
    }

    /// Whether it starts edge and core itself.
    pub(crate) fn has_own_world(self) -> bool {
        matches!(self, Self::SipSubscriptions | Self::SipMessages)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Streams => "streams",
            Self::Sessions => "sessions",
            Self::C2s => "c2s",
            Self::C2sManaged => "c2s-managed",
            Self::S2sIn => "s2s-in",
            Self::S2sOut => "s2s-out",
            Self::S2sOutManaged => "s2s-out-managed",
            Self::Presence => "presence",
            Self::SipIn => "sip-in",
            Self::SipOut => "sip-out",
            Self::SipIdle => "sip-idle",
            Self::SipSubscriptions => "sip-subscriptions",
            Self::SipMessages => "sip-messages",
        })
    }
}

/// How much load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Messages or deliveries in one run.
    pub(crate) messages: u64,
    /// How many may be under way.
    pub(crate) window: u64,
    /// How many go into one write of the driver.
    pub(crate) batch: u64,
    /// Contacts that see the presence.
    pub(crate) contacts: usize,
    /// Idle streams or sessions.
    pub(crate) idle: usize,
}

impl Load {
    /// Messages with these attributes, of clients that do not count.
    fn flow<'a>(&self, attributes: &'a str) -> Flow<'a> {
        let Self { window, batch, .. } = *self;
        Flow { attributes, window, batch, asks: false, acknowledged: None }
    }
}

/// The outcome of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// CPU time of the server for each, microseconds.
    pub(crate) cpu: f64,
    /// How many of them in a second.
    pub(crate) per_second: f64,
    /// Resident memory of the server at the end, KiB.
    pub(crate) resident: u64,
    /// What each idle one takes of it, KiB; where that is measured.
    pub(crate) each: Option<f64>,
    /// The same of the second half of them alone: what the first one costs once, such as code that is
    /// read from disk and caches that fill, is not in it.
    pub(crate) later: Option<f64>,
}

/// The names of all accounts that the paths need.
pub(crate) fn users(load: &Load) -> Vec<String> {
    ["romeo", "juliet"].map(str::to_owned).into_iter().chain(contacts(load)).collect()
}

/// The names of the contacts.
pub(crate) fn contacts(load: &Load) -> impl Iterator<Item = String> + use<> {
    (0..load.contacts).map(|number| format!("contact{number}"))
}

/// Measures one run of one path on one server.
pub(crate) async fn measure(
    path: Path,
    subject: &mut Subject,
    load: &Load,
) -> Result<Sample, Failure> {
    let run = async {
        match path {
            Path::Streams | Path::Sessions => idle(path, subject, load).await,
            Path::C2s => c2s(subject, load, false).await,
            Path::C2sManaged => c2s(subject, load, true).await,
            Path::S2sIn => s2s_in(subject, load).await,
            Path::S2sOut => s2s_out(subject, load, false).await,
            Path::S2sOutManaged => s2s_out(subject, load, true).await,
            Path::Presence => presence(subject, load).await,
            path => Err(Failure::world(format!("{path} is no path of XMPP"))),
        }
    };
    within(run).await
}

/// The outcome, or that it takes too long.
pub(crate) async fn within(
    run: impl Future<Output = Result<Sample, Failure>>,
) -> Result<Sample, Failure> {
    let late = |_| Failure::world(format!("no end within {RUN_WITHIN:?}"));
    timeout(RUN_WITHIN, Box::pin(run)).await.map_err(late)?
}

async fn c2s(subject: &mut Subject, load: &Load, managed: bool) -> Result<Sample, Failure> {
    let mut romeo = subject.partner.log_in(subject.clients, "romeo", "bench").await?;
    let mut juliet = subject.partner.log_in(subject.clients, "juliet", "bench").await?;
    subject.partner.appear(&mut romeo).await?;
    subject.partner.appear(&mut juliet).await?;
    let acknowledged = Cell::new(0);
    if managed {
        enable(&mut romeo).await?;
        enable(&mut juliet).await?;
    }
    let to = format!("to='{}'", Subject::user("juliet"));
    let mut flow = load.flow(&to);
    flow.asks = managed;
    flow.acknowledged = managed.then_some(&acknowledged);
    messages(subject, load, flow, romeo, juliet).await
}

/// From here on a client counts.
async fn enable(client: &mut Wire) -> Result<(), Failure> {
    client.say("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await?;
    client.hear(&["<enabled"]).await?;
    client.hear(&[">"]).await?;
    Ok(())
}

async fn s2s_in(subject: &mut Subject, load: &Load) -> Result<Sample, Failure> {
    let mut juliet = subject.partner.log_in(subject.clients, "juliet", "bench").await?;
    subject.partner.appear(&mut juliet).await?;
    let stream = subject.partner.dial(subject.servers).await?;
    let ends = format!("from='{}' to='{}'", Subject::stranger(), Subject::user("juliet"));
    messages(subject, load, load.flow(&ends), stream, juliet).await
}

async fn s2s_out(subject: &mut Subject, load: &Load, managed: bool) -> Result<Sample, Failure> {
    let listener = TcpListener::bind(subject.partner_at).await.map_err(broken)?;
    let mut romeo = subject.partner.log_in(subject.clients, "romeo", "bench").await?;
    subject.partner.appear(&mut romeo).await?;
    let to = format!("to='{}'", Subject::stranger());
    // The first message opens the stream.
    romeo.say(&format!("<message {to} type='chat'><body>first</body></message>")).await?;
    let mut stream = subject.partner.accept(&listener).await?;
    stream.hear(&["</message>"]).await?;
    if managed {
        enable(&mut romeo).await?;
    }
    let flow = Flow { asks: managed, ..load.flow(&to) };
    messages(subject, load, flow, romeo, stream).await
}

async fn messages(
    subject: &mut Subject,
    load: &Load,
    flow: Flow<'_>,
    mut from: Wire,
    mut to: Wire,
) -> Result<Sample, Failure> {
    flow.run(&mut from, &mut to, load.messages / WARM_UP_SHARE + 1).await?;
    let begin = Begin::now(subject)?;
    flow.run(&mut from, &mut to, load.messages).await?;
    let sample = begin.end(subject, load.messages)?;
    from.close().await;
    to.close().await;
    Ok(sample)
}

async fn presence(subject: &mut Subject, load: &Load) -> Result<Sample, Failure> {
    let mut fanout = fanout::Fanout::prepare(subject, load).await?;
    let rounds = load.messages / u64::try_from(load.contacts.max(1)).unwrap_or(u64::MAX) + 1;
    fanout.run(rounds / WARM_UP_SHARE + 1).await?;
    let begin = Begin::now(subject)?;
    let deliveries = fanout.run(rounds).await?;
    let sample = begin.end(subject, deliveries)?;
    fanout.close().await;
    Ok(sample)
}

async fn idle(path: Path, subject: &mut Subject, load: &Load) -> Result<Sample, Failure> {
    let names: Vec<_> = contacts(load).collect();
    let mut held = Vec::new();
    let begin = Begin::now(subject)?;
    let mut half = begin.usage;
    for number in 0..load.idle {
        if number == load.idle / 2 {
            half = subject.usage()?;
        }
        held.push(if path == Path::Streams {
            subject.partner.dial(subject.servers).await?
        } else {
            let index = number % names.len().max(1);
            let name = names.get(index).map_or("romeo", String::as_str);
            let resource = format!("idle{number}");
            subject.partner.log_in(subject.clients, name, &resource).await?
        });
    }
    sleep(SETTLE).await;
    let count = u64::try_from(held.len()).unwrap_or(u64::MAX);
    let mut sample = begin.end(subject, count)?;
    let grown = |since: Usage| sample.resident.saturating_sub(since.resident);
    let (all, later) = (grown(begin.usage), grown(half));
    let mut kept = true;
    for mut wire in held {
        kept &= wire.is_open().await;
        wire.close().await;
    }
    // What a server has closed by itself, as ours does beyond so many streams of one domain, takes
    // no memory: then there is nothing to divide by.
    sample.each = kept.then(|| ratio(all, count));
    sample.later = kept.then(|| ratio(later, count - count / 2));
    sleep(SETTLE).await;
    Ok(sample)
}

/// The readings before a run.
pub(crate) struct Begin {
    usage: Usage,
    at: std::time::Instant,
}

impl Begin {
    fn now(subject: &mut Subject) -> Result<Self, Failure> {
        subject.usage().map(Self::at)
    }

    fn end(&self, subject: &mut Subject, count: u64) -> Result<Sample, Failure> {
        Ok(self.end_with(subject.usage()?, count))
    }

    /// With what was used until now.
    pub(crate) fn at(usage: Usage) -> Self {
        Self { usage, at: now() }
    }

    /// With what was used at the end, which is now.
    pub(crate) fn end_with(&self, usage: Usage, count: u64) -> Sample {
        let took = now() - self.at;
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        Sample {
            cpu: ratio(usage.cpu - self.usage.cpu, count),
            per_second: ratio(count.saturating_mul(1_000_000), took),
            resident: usage.resident,
            each: None,
            later: None,
        }
    }
}

/// One through the other.
#[expect(clippy::cast_precision_loss, reason = "measured values are far below 2^52")]
pub(crate) fn ratio(over: u64, under: u64) -> f64 {
    over as f64 / under.max(1) as f64
}
