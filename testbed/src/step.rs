use std::time::Duration;

use crate::nodes::Order;
use crate::shape::Shape;

/// One statement of a play, with where it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Line {
    /// Counted from one.
    pub(crate) number: usize,
    /// As it is written.
    pub(crate) said: String,
    /// Only in this shape.
    pub(crate) only: Option<Shape>,
    /// What to do.
    pub(crate) step: Step,
}

/// What a line asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// A client logs in, or must be refused.
    Connect {
        /// `romeo` or `romeo/garden`.
        actor: String,
        /// How.
        login: Login,
        /// Text in the reason for which it must fail; `None` if it must succeed.
        refused: Option<String>,
        /// How long it may take.
        within: Duration,
    },
    /// A client or hand-made peer leaves.
    Disconnect {
        /// Who.
        actor: String,
    },
    /// A hand-made peer opens a stream.
    Open {
        /// Who.
        actor: String,
        /// To whom, over which port, how far.
        opening: Opening,
    },
    /// Text goes out as it is.
    Send {
        /// Who.
        actor: String,
        /// How often, with `{n}` counting from one.
        times: u32,
        /// What.
        xml: String,
        /// So long that it has this many bytes, by repeating what `{fill:x}` names.
        bytes: Option<usize>,
        /// One after the other with so long a pause, while the play goes on.
        pause: Option<Duration>,
    },
    /// Each stanza must arrive at one of several, and nothing twice but what is allowed.
    Account {
        /// Who.
        actors: Vec<String>,
        /// How many, with `{n}` counting from one.
        times: u32,
        /// What; it must have an id.
        xml: String,
        /// How strictly.
        count: Count,
        /// How long it may take.
        within: Duration,
    },
    /// Many connections that say nothing, or one that says one character a second.
    Crowd {
        /// Who.
        actor: String,
        /// How many.
        count: u32,
        /// Over which port.
        port: Port,
        /// What it says.
        says: Says,
        /// From so many addresses.
        sources: u32,
    },
    /// So many of a crowd must have been closed at once.
    Refused {
        /// Who.
        actor: String,
        /// How many, at least.
        count: u32,
        /// How long it may take.
        within: Duration,
    },
    /// A client's connection breaks, without a word.
    Break {
        /// Whose.
        actor: String,
    },
    /// A client whose connection broke takes its session up again (XEP-0198), or must not be able
    /// to.
    Back {
        /// Who.
        actor: String,
        /// Whether its session is still there.
        resumes: bool,
    },
    /// A client asks until it was told that all it sent has arrived (XEP-0198).
    Acknowledged {
        /// Who.
        actor: String,
        /// How long that may take.
        within: Duration,
    },
    /// A client sends again what it was not told to have arrived before its last session ended; there is
    /// some of it.
    SendAgain {
        /// Who.
        actor: String,
    },
    /// A server that does not run gets another key and certificate.
    ChangeKey {
        /// Which.
        peer: String,
    },
    /// A client tells whether somebody looks at it (XEP-0352).
    Attention {
        /// Who.
        actor: String,
        /// Whether somebody does.
        active: bool,
    },
    /// An actor reads nothing more.
    Deaf {
        /// Who.
        actor: String,
    },
    /// The link between core and edge is cut (`true`) or healed.
    Link(bool),
    /// sipp sends messages through a SIP server, and each must be answered with 200.
    Load {
        /// The server.
        peer: String,
        /// In whose name: the local part.
        from: String,
        /// To whom.
        to: String,
        /// How many.
        count: u32,
        /// How many a second.
        per_second: u32,
    },
    /// Test nodes or their partner do something.
    Nodes(Order),
    /// Time passes.
    Wait(Duration),
    /// A process is frozen (`true`) or goes on.
    Freeze {
        /// Which.
        process: String,
        /// Or thawed.
        frozen: bool,
    },
    /// A process must never have used more memory than this.
    Memory {
        /// Which.
        process: String,
        /// In MiB.
        mebibytes: u64,
    },
    /// Stanzas must arrive in this order.
    Receive {
        /// Who.
        actor: String,
        /// How often, with `{n}` counting from one.
        times: u32,
        /// What.
        xml: String,
        /// How long it may take.
        within: Duration,
    },
    /// Stanzas must not arrive.
    Lack {
        /// Who.
        actor: String,
        /// What.
        xml: String,
        /// How long we watch.
        within: Duration,
    },
    /// The roster must hold items.
    Roster {
        /// Who.
        actor: String,
        /// Which items.
        xml: String,
        /// How long it may take.
        within: Duration,
    },
    /// The other side must close the connection.
    Ended {
        /// Who.
        actor: String,
        /// How long it may take.
        within: Duration,
    },
    /// `kill -9`.
    Kill(String),
    /// SIGTERM, and the exit code must be 0.
    Stop(String),
    /// Start again what was killed or stopped.
    Start(String),
    /// A log must have, or must not have, a line with all of these texts.
    Log {
        /// Whose.
        process: String,
        /// What.
        texts: Vec<String>,
        /// Whether such a line must be there.
        wanted: bool,
        /// How long it may take to appear.
        within: Duration,
    },
    /// Our metrics or our status must contain these texts on one line.
    Admin {
        /// `/metrics` or `/status`.
        path: &'static str,
        /// Which of our processes.
        process: String,
        /// What.
        texts: Vec<String>,
        /// How long it may take.
        within: Duration,
    },
    /// Our command line is run.
    Command {
        /// Its arguments.
        arguments: Vec<String>,
        /// What is typed into it.
        input: String,
        /// Whether it must succeed.
        succeeds: bool,
        /// What it must say, line by line.
        says: Vec<String>,
    },
}

/// How stanzas are counted that must all arrive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Count {
    /// In order, at each of those at whom they arrive.
    pub(crate) ordered: bool,
    /// So many of them, one after the other, may arrive again: a process was killed that had passed
    /// them on and could not say so any more.
    pub(crate) twice_max: u32,
}

/// How a client logs in.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Login {
    /// Direct TLS instead of STARTTLS.
    pub(crate) direct_tls: bool,
    /// Counts (XEP-0198), and may come back within this time.
    pub(crate) resumption: Option<Duration>,
    /// No initial presence, no roster.
    pub(crate) without_presence: bool,
    /// The priority of the initial presence.
    pub(crate) priority: Option<i8>,
    /// A node that it wants to hear of (XEP-0163).
    pub(crate) interest: Option<String>,
    /// The one SASL mechanism to use.
    pub(crate) mechanism: Option<String>,
    /// Instead of the right one.
    pub(crate) password: Option<String>,
    /// By xmpp.js, and not by slixmpp.
    pub(crate) one_round_trip: bool,
    /// By the token of the last time, and without the password (XEP-0484).
    pub(crate) by_token: bool,
}

/// How a hand-made peer opens its stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Opening {
    /// The domain it wants to reach.
    pub(crate) to: String,
    /// As what, and over which port.
    pub(crate) port: Port,
    /// How far it goes before the script takes over.
    pub(crate) until: Until,
}

/// As what a hand-made peer connects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Port {
    /// A client, STARTTLS.
    Client,
    /// A server, STARTTLS.
    Server,
    /// A server, direct TLS.
    ServerDirectTls,
}

/// What a crowd says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Says {
    /// Nothing.
    Nothing,
    /// A stream header, a character a second.
    Drips,
    /// The beginning of a TLS handshake, and then nothing more.
    HalfOfTls,
}

/// How far a hand-made peer goes on its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Until {
    /// Sends a stream header in the clear.
    Header,
    /// Is inside TLS and has seen the features.
    Tls,
    /// Has authenticated with SASL EXTERNAL.
    Authenticated,
}
