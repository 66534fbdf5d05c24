use gatehouse_tls::{Acceptor, Connector, KeyEntry, Keys, Roots, SystemRoots, TlsError};
use gatehouse_types::Domain;
use std::fs;
use std::net::SocketAddr;
use tokio::net::TcpListener;

use crate::authority::Files;
use crate::bench::wire::{Wire, broken};
use crate::failure::Failure;

const FEATURES: [&str; 2] = ["</stream:features>", "<stream:features/>"];

/// The driver's end of every stream: clients of the server under test, and the one partner that
/// all servers see.
#[derive(Debug)]
pub(crate) struct Partner {
    connector: Connector,
    acceptor: Acceptor,
    near: Domain,
    far: Domain,
}

impl Partner {
    /// The partner `far` with its certificate, for servers of the domain `near`.
    pub(crate) fn new(near: &Domain, far: &Domain, files: &Files) -> Result<Self, Failure> {
        let setup = |error: TlsError| Failure::world(format!("cannot set up TLS: {error}"));
        let read = |file| fs::read_to_string(file).map_err(Failure::io("read", file));
        let keys = Keys::empty();
        keys.replace(vec![KeyEntry {
            domains: vec![far.clone()],
            chain_pem: read(&files.certificate)?,
            key_pem: read(&files.key)?,
        }])
        .map_err(setup)?;
        let roots = Roots::new(&[], SystemRoots::Ignore).map_err(setup)?;
        Ok(Self {
            connector: Connector::new(&keys, &roots, &[]).map_err(setup)?,
            acceptor: Acceptor::new(&keys, &roots, &[]).map_err(setup)?,
            near: near.clone(),
            far: far.clone(),
        })
    }

    /// Logs a user in: STARTTLS, SASL PLAIN, a resource. It is not available yet.
    pub(crate) async fn log_in(
        &self,
        clients: SocketAddr,
        user: &str,
        resource: &str,
    ) -> Result<Wire, Failure> {
        let near = &self.near;
        let header = format!(
            "<?xml version='1.0'?><stream:stream to='{near}' version='1.0' \
             xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        );
        let mut wire = start_tls(Wire::dial(clients).await?, &header).await?;
        wire = wire.secure_as_client(&self.connector, near, near).await?;
        wire.say(&header).await?;
        wire.hear(&FEATURES).await?;
        let secret = base64(format!("\0{user}\0{}", password(user)).as_bytes());
        wire.say(&format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>"
        ))
        .await?;
        wire.hear(&["<success"]).await?;
        wire.hear(&[">"]).await?;
        wire.say(&header).await?;
        wire.hear(&FEATURES).await?;
        wire.say(&format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>{resource}</resource></bind></iq>"
        ))
        .await?;
        wire.hear(&["</jid>"]).await?;
        wire.hear(&["</iq>"]).await?;
        Ok(wire)
    }

    /// Makes a user available, and waits until the server has seen it.
    pub(crate) async fn appear(&self, wire: &mut Wire) -> Result<(), Failure> {
        let near = &self.near;
        wire.say(&format!(
            "<presence/><iq type='get' id='seen' to='{near}'><ping xmlns='urn:xmpp:ping'/></iq>"
        ))
        .await?;
        wire.hear(&["'seen'", "\"seen\""]).await?;
        wire.hear(&[">"]).await.map(drop)
    }

    /// Opens a stream to the server as another server would: STARTTLS, SASL EXTERNAL.
    pub(crate) async fn dial(&self, servers: SocketAddr) -> Result<Wire, Failure> {
        let (near, far) = (&self.near, &self.far);
        let header = format!(
            "<?xml version='1.0'?><stream:stream from='{far}' to='{near}' version='1.0' \
             xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'>"
        );
        let mut wire = start_tls(Wire::dial(servers).await?, &header).await?;
        wire = wire.secure_as_client(&self.connector, near, far).await?;
        wire.say(&header).await?;
        let features = wire.hear(&FEATURES).await?;
        if !features.contains("EXTERNAL") {
            return Err(Failure::world(format!("no EXTERNAL offered: {features}")));
        }
        let name = base64(far.as_str().as_bytes());
        wire.say(&format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>{name}</auth>"
        ))
        .await?;
        wire.hear(&["<success"]).await?;
        wire.hear(&[">"]).await?;
        wire.say(&header).await?;
        wire.hear(&FEATURES).await?;
        Ok(wire)
    }

    /// Waits for the server to open a stream to us, and answers as another server would.
    pub(crate) async fn accept(&self, listener: &TcpListener) -> Result<Wire, Failure> {
        let (near, far) = (&self.near, &self.far);
        let header = format!(
            "<?xml version='1.0'?><stream:stream from='{far}' to='{near}' id='bench' version='1.0' \
             xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'>"
        );
        let (tcp, _) = listener.accept().await.map_err(broken)?;
        let mut wire = Wire::over(tcp)?;
        hear_header(&mut wire).await?;
        wire.say(&format!(
            "{header}<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'>\
             <required/></starttls></stream:features>"
        ))
        .await?;
        wire.hear(&["<starttls"]).await?;
        wire.hear(&[">"]).await?;
        wire.say("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await?;
        wire = wire.secure_as_server(&self.acceptor).await?;
        hear_header(&mut wire).await?;
        wire.say(&format!(
            "{header}<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
             <mechanism>EXTERNAL</mechanism></mechanisms></stream:features>"
        ))
        .await?;
        wire.hear(&["<auth"]).await?;
        wire.hear(&["</auth>", "/>"]).await?;
        wire.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await?;
        hear_header(&mut wire).await?;
        wire.say(&format!("{header}<stream:features/>")).await?;
        Ok(wire)
    }
}

/// The password of an account.
pub(crate) fn password(user: &str) -> String {
    format!("{user}-password")
}

async fn start_tls(mut wire: Wire, header: &str) -> Result<Wire, Failure> {
    wire.say(header).await?;
    wire.hear(&FEATURES).await?;
    wire.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await?;
    wire.hear(&["<proceed"]).await?;
    wire.hear(&[">"]).await?;
    Ok(wire)
}

async fn hear_header(wire: &mut Wire) -> Result<(), Failure> {
    wire.hear(&["<stream:stream"]).await?;
    wire.hear(&[">"]).await.map(drop)
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
