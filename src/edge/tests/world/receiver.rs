use std::sync::Arc;
use std::time::Duration;

use gatehouse_identity::AuthenticatedPeer;
use gatehouse_net::{Connection, Step, now};
use gatehouse_testkit::{Issue, TestCa};
use gatehouse_tls::Acceptor;
use gatehouse_types::{Domain, Local, Machine as _, Remote, StreamLimits};
use gatehouse_xmpp::dialback::DialbackSecret;
use gatehouse_xmpp::s2s::{
    Authentication, Bidi, DialbackAnswer, Encryption, Gate, ReceiverConfig, S2sEvent, S2sReceiver,
    Terms,
};
use gatehouse_xmpp::{Entry, Seed, Stanza, StreamCondition, StreamError};
use tokio::net::TcpListener;

use super::side::keys;

/// A server by direct TLS that believes every dialback key and may leave at a bad moment.
pub(crate) struct Receiver {
    listener: TcpListener,
    acceptor: Acceptor,
    domain: Domain,
}

/// What the server does once it has said that the dialback key is valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Manners {
    /// Takes one stanza, and acknowledges it where it can.
    Takes,
    /// Takes one stanza and is gone without a word.
    Dies,
    /// Leaves at once, in the same breath.
    Leaves,
}

struct Believer(Domain);

impl Gate for Believer {
    fn serves(&self, domain: &Domain) -> bool {
        *domain == self.0
    }

    fn terms(&self, _from: &Remote<Domain>, _to: &Local<Domain>) -> Result<Terms, StreamError> {
        Ok(Terms {
            authentication: Authentication::CertificateOrDialback,
            encryption: Encryption::Required,
        })
    }

    fn admit(&self, _: &AuthenticatedPeer, _: &Local<Domain>) -> Result<String, StreamError> {
        Ok("believes everything".into())
    }
}

impl Receiver {
    pub(crate) fn new(listener: TcpListener, domain: &str, ca: &TestCa) -> Self {
        let (keys, roots) = keys(domain, &Issue::self_signed().dns(domain).make(), ca);
        let acceptor = Acceptor::new(&keys, &roots, &["xmpp-server"]).unwrap();
        Self { listener, acceptor, domain: domain.parse().unwrap() }
    }

    /// Serves one connection; the stanza that came, if any.
    pub(crate) async fn serve(&self, manners: Manners) -> Option<Stanza> {
        let (tcp, _) = self.listener.accept().await.unwrap();
        let (io, facts) = self.acceptor.accept(tcp, None).await.unwrap();
        let config = ReceiverConfig {
            limits: StreamLimits::default(),
            dialback_secret: DialbackSecret::new(b"another secret, also 32 bytes...".to_vec()),
            bidi: Bidi::Off,
        };
        let machine = S2sReceiver::new(
            Arc::new(config),
            Arc::new(Believer(self.domain.clone())),
            Entry::Direct(facts),
            Seed::new([3; 32]),
            now(),
        );
        let mut connection = Connection::new(machine, Box::new(io), Duration::from_secs(5));
        loop {
            match connection.next().await {
                Ok(Step::Event(S2sEvent::VerifyKey(question))) => {
                    let machine = connection.machine_mut();
                    machine.dialback_answer(&question, DialbackAnswer::Valid, now());
                    if manners == Manners::Leaves {
                        let error = StreamError::from(StreamCondition::Reset);
                        machine.close_with(error, now());
                    }
                }
                Ok(Step::Event(S2sEvent::Stanza(stanza, _))) if manners == Manners::Dies => {
                    return Some(stanza);
                }
                Ok(Step::Event(S2sEvent::Stanza(stanza, number))) => {
                    if let Some(number) = number {
                        // Only this one: others that came with it are not waited for.
                        connection.machine_mut().handled(number, now());
                        let error = StreamError::from(StreamCondition::Reset);
                        connection.machine_mut().close_with(error, now());
                    }
                    connection.machine_mut().handle_shutdown(now());
                    while let Ok(Step::Event(_)) = connection.next().await {}
                    return Some(stanza);
                }
                Ok(Step::Event(_)) => {}
                Ok(Step::Upgrade | Step::Closed) | Err(_) => return None,
            }
        }
    }
}
