use std::net::SocketAddr;

use gatehouse_identity::{AuthenticatedPeer, Presented, TlsFacts, TlsaSet, prove};
use gatehouse_net::{BoxedIo, Connection, Step, now};
use gatehouse_resolve::{Host, Transport};
use gatehouse_types::Machine;
use gatehouse_xmpp::Entry;
use gatehouse_xmpp::s2s::{Authentication, Encryption, Purpose, S2sEvent, S2sInitiator, Terms};
use gatehouse_xmpp::stream::CloseReason;
use tokio::net::TcpStream;
use tokio::time;
use tracing::debug;

use super::dane::under_tlsa;
use super::dial::{Call, OpenStream, Outcome};
use super::failure::{AttemptError, Stage};
use crate::shared::Edge;

/// How long a stream that has served its purpose may take to say goodbye.
const FAREWELL: time::Duration = time::Duration::from_secs(2);

/// How long the stream error of a failed attempt may take: the next target waits for it.
const LAST_WORDS: time::Duration = time::Duration::from_millis(500);

/// One address of one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) host: Host,
    pub(super) address: SocketAddr,
    pub(super) transport: Transport,
}

/// One try at one target that has taken our connection.
pub(super) struct Attempt<'a> {
    edge: &'a Edge,
    call: &'a Call,
    target: &'a Target,
    /// What DNSSEC proves about its certificates, if anything.
    tlsa: Option<&'a TlsaSet>,
    stage: Stage,
    /// As they are kept for when policy or trust change.
    facts: Option<TlsFacts>,
    /// What was shown, as the stream has it.
    presented: Option<Presented>,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        edge: &'a Edge,
        call: &'a Call,
        target: &'a Target,
        tlsa: Option<&'a TlsaSet>,
    ) -> Self {
        let stage = Stage::Stream;
        Self { edge, call, target, tlsa, stage, facts: None, presented: None }
    }

    /// Goes from TCP to what the call is for, until `deadline`: the target's time has begun with
    /// the connection.
    pub(super) async fn run(
        mut self,
        tcp: TcpStream,
        deadline: time::Instant,
    ) -> Result<Outcome, AttemptError> {
        let timeout = self.edge.config.target_timeout;
        match time::timeout_at(deadline, self.negotiate(tcp)).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(error)) => Err(self.explain(error)),
            Err(_) => Err(self.explain(AttemptError::Silent { stage: self.stage, timeout })),
        }
    }

    async fn negotiate(&mut self, tcp: TcpStream) -> Result<Outcome, AttemptError> {
        let (io, entry): (BoxedIo, Entry) = match self.target.transport {
            Transport::StartTls => (Box::new(tcp), Entry::StartTls),
            Transport::DirectTls => {
                self.stage = Stage::Tls;
                let connector = &self.edge.direct_connector;
                let (remote, local) = (&self.call.remote.0, &self.call.local.0);
                let shaken = connector.connect(tcp, remote, local).await;
                let (io, facts) = shaken.map_err(AttemptError::Tls)?;
                let facts = self.judged(facts)?;
                (Box::new(io), Entry::Direct(facts))
            }
        };
        self.stage = Stage::Stream;
        let machine = S2sInitiator::new(
            self.edge.initiator.clone(),
            self.call.local.clone(),
            self.call.remote.clone(),
            self.call.purpose.clone(),
            self.terms(),
            entry,
            self.edge.random.seed(),
            now(),
        );
        let write_timeout = self.edge.config.limits.write_timeout;
        self.open(Connection::new(machine, io, write_timeout)).await
    }

    async fn open(
        &mut self,
        mut connection: Connection<S2sInitiator>,
    ) -> Result<Outcome, AttemptError> {
        loop {
            match connection.next().await.map_err(AttemptError::Broken)? {
                Step::Event(S2sEvent::Opened { peer, .. }) => {
                    if let Purpose::Stanzas = self.call.purpose {
                        return Ok(Outcome::Open(Box::new(self.opened(connection, peer))));
                    }
                }
                Step::Event(S2sEvent::KeyVerdict { valid }) => {
                    connection.machine_mut().handle_shutdown(now());
                    finish(connection, FAREWELL).await;
                    return Ok(Outcome::Verdict { valid });
                }
                Step::Event(S2sEvent::AuthenticationFailed { method, reason }) => {
                    debug!(peer.domain = %self.call.remote, method, reason, "authentication failed");
                }
                Step::Event(S2sEvent::Closed(reason)) => {
                    finish(connection, LAST_WORDS).await;
                    return Err(AttemptError::Closed(reason));
                }
                // Of receivers only, or nothing to act on.
                Step::Event(
                    S2sEvent::Header { .. }
                    | S2sEvent::VerifyKey(_)
                    | S2sEvent::Stanza(..)
                    | S2sEvent::Acknowledged(_)
                    | S2sEvent::Malformed { .. },
                ) => {}
                Step::Upgrade => self.upgrade(&mut connection).await?,
                Step::Closed => return Err(AttemptError::Closed(CloseReason::Disconnected)),
            }
        }
    }

    async fn upgrade(
        &mut self,
        connection: &mut Connection<S2sInitiator>,
    ) -> Result<(), AttemptError> {
        let Some(io) = connection.take_io() else {
            return Err(AttemptError::Closed(CloseReason::Disconnected));
        };
        self.stage = Stage::Tls;
        let connector = &self.edge.starttls_connector;
        let shaken = connector.connect(io, &self.call.remote.0, &self.call.local.0).await;
        let (io, facts) = shaken.map_err(AttemptError::Tls)?;
        let facts = self.judged(facts)?;
        self.stage = Stage::Stream;
        connection.put_io(Box::new(io));
        connection.machine_mut().handle_tls(facts, now());
        Ok(())
    }

    /// Who publishes TLSA records says that there is TLS: to go on without would be a downgrade
    /// (RFC 7673, section 4).
    fn terms(&self) -> Terms {
        let terms = self.call.terms;
        match self.tlsa {
            Some(_) => Terms { encryption: Encryption::Required, ..terms },
            None => terms,
        }
    }

    /// What the handshake told, in the light of what DNSSEC and policy know of this partner's keys.
    /// What was shown is kept as it came, because policy may change.
    fn judged(&mut self, facts: TlsFacts) -> Result<TlsFacts, AttemptError> {
        let remote = &self.call.remote;
        let (presented, kept) = match self.tlsa {
            Some(tlsa) => under_tlsa(&facts, remote, tlsa)?,
            None => (facts.presented.under_pins(remote, &self.call.pins), facts.presented.clone()),
        };
        self.presented = Some(presented.clone());
        self.facts = Some(TlsFacts { presented: kept, ..facts.clone() });
        Ok(TlsFacts { presented, ..facts })
    }

    fn opened(&self, connection: Connection<S2sInitiator>, peer: AuthenticatedPeer) -> OpenStream {
        OpenStream {
            connection,
            peer,
            host: self.target.host.clone(),
            address: self.target.address,
            facts: self.facts.clone(),
        }
    }

    /// Where a certificate was asked for and the one shown proves nothing, that is the reason,
    /// whatever the two streams made of it.
    fn explain(&self, error: AttemptError) -> AttemptError {
        let negotiated = matches!(error, AttemptError::Closed(_) | AttemptError::Broken(_));
        let needed = self.call.terms.authentication == Authentication::Certificate;
        match &self.presented {
            Some(presented) if negotiated && needed => match prove(presented, &self.call.remote) {
                Ok(_) => error,
                Err(fault) => AttemptError::Certificate(fault),
            },
            _ => error,
        }
    }
}

/// Lets the machine's last words leave. What the other side makes of them does not matter: the
/// outcome is known.
async fn finish(mut connection: Connection<S2sInitiator>, timeout: time::Duration) {
    let farewell = async { while let Ok(Step::Event(_)) = connection.next().await {} };
    let _ = time::timeout(timeout, farewell).await;
}
