//! How a client comes in: STARTTLS, what its log-in is checked against, its resource.

use gatehouse_net::now;
use gatehouse_store::{AccountVersion, StoredKeys};
use gatehouse_telemetry::StreamState;
use gatehouse_types::{Chain, Jid};
use gatehouse_xmpp::sasl::{ScramHash, ScramKeys, TokenMechanism};
use gatehouse_xmpp::{StreamCondition, StreamError};
use tokio::time;
use tracing::{debug, error};

use crate::management::unguessable_name;
use crate::outbox::outbox;
use crate::refusal::Refusal;
use crate::resume::Bound;
use crate::session::{Client, version_name};

impl Client {
    /// Looks up the keys of an account.
    pub(crate) async fn credentials(&mut self, account: &Jid) {
        if !self.may_try().await {
            return;
        }
        match self.ports.router.store.credentials(account).await {
            Ok(found) => {
                self.version = found.as_ref().map(|found| found.version);
                let keys = found.into_iter().flat_map(|found| found.keys).filter_map(scram_keys);
                self.connection.machine_mut().credentials(keys.collect(), now());
            }
            Err(failure) => {
                error!(error = %Chain(&failure), "cannot read credentials; the log-in fails");
                self.cannot_check();
            }
        }
    }

    /// Looks up the tokens of an installation of a client.
    pub(crate) async fn tokens(&mut self, account: &Jid, client: &str, mechanism: TokenMechanism) {
        if !self.may_try().await {
            return;
        }
        let router = &self.ports.router;
        let (name, now_ms) = (mechanism.name(), router.clock.now_ms());
        match router.store.fast_tokens(account, client, name, now_ms).await {
            Ok(found) => {
                self.version = found.as_ref().map(|found| found.version);
                self.tokens = found.map(|found| found.tokens).unwrap_or_default();
                let known: Vec<String> = self.tokens.iter().map(|it| it.token.clone()).collect();
                self.connection.machine_mut().tokens(&known, now());
            }
            Err(failure) => {
                error!(error = %Chain(&failure), "cannot read tokens; the log-in fails");
                self.cannot_check();
            }
        }
    }

    /// Whoever fails often waits here. The same for accounts that exist and that do not.
    async fn may_try(&mut self) -> bool {
        let Some(wait) = self.ports.failed_logins.wait(self.source, now()) else {
            self.cannot_check();
            return false;
        };
        let stop = self.ports.tasks.stop();
        stop.run_until_cancelled(time::sleep(wait)).await;
        true
    }

    fn cannot_check(&mut self) {
        self.unchecked = true;
        self.connection.machine_mut().credentials_unavailable(now());
    }

    /// Who logged in, to what. Nobody comes this far without; if somebody does, the stream ends.
    pub(crate) fn proved(&mut self) -> Option<(Jid, AccountVersion)> {
        let proved = self.account.clone().zip(self.version);
        if proved.is_none() {
            let error = StreamError::new(StreamCondition::NotAuthorized, "log in first");
            self.connection.machine_mut().close_with(error, now());
        }
        proved
    }

    /// Binds the resource that a client asks for, or one that nobody guesses.
    pub(crate) async fn bind(&mut self, resource: Option<String>) {
        let Some((account, version)) = self.proved() else { return };
        let Some(resource) = resource.or_else(unguessable_name) else {
            error!("no randomness: a client could not be given a resource");
            let error = StreamError::from(StreamCondition::InternalServerError);
            return self.connection.machine_mut().close_with(error, now());
        };
        match self.bind_resource(&account, version, &resource).await {
            Ok(full) => self.connection.machine_mut().bind(full, now()),
            Err(Refusal { condition, text, .. }) => {
                self.connection.machine_mut().refuse_bind(condition, &text, now());
            }
        }
    }

    /// Begins a session; its address.
    pub(crate) async fn bind_resource(
        &mut self,
        account: &Jid,
        version: AccountVersion,
        resource: &str,
    ) -> Result<Jid, Refusal> {
        let (sender, receiver) = outbox(self.ports.config.limits.send_queue_len_max);
        let session = self.ports.router.bind(account, version, resource, sender).await?;
        let full = session.jid.clone();
        self.open_as(&full);
        self.bound = Some(Box::new(Bound::new(session, receiver)));
        Ok(full)
    }

    /// Tells the status whose stream this is.
    pub(crate) fn open_as(&self, full: &Jid) {
        self.row.update(|row| {
            row.peer = full.to_string();
            row.state = StreamState::Open;
        });
    }

    /// STARTTLS. False if the client is not worth going on with.
    pub(crate) async fn upgrade(&mut self) -> bool {
        let Some(io) = self.connection.take_io() else { return false };
        let domain = self.connection.machine().requested_domain().map(|domain| domain.0.clone());
        let stop = self.ports.tasks.stop();
        let limit = self.ports.config.limits.setup_timeout;
        let handshake = time::timeout(limit, self.ports.starttls.accept(io, domain.as_ref()));
        match stop.run_until_cancelled(handshake).await {
            Some(Ok(Ok((io, facts)))) => {
                self.row.update(|row| version_name(facts.version).clone_into(&mut row.tls));
                self.connection.put_io(Box::new(io));
                self.connection.machine_mut().handle_tls(facts, now());
                true
            }
            Some(Ok(Err(failure))) => {
                debug!(error = %Chain(&failure), "a client's TLS handshake failed");
                false
            }
            Some(Err(_)) | None => false,
        }
    }
}

fn scram_keys(stored: StoredKeys) -> Option<ScramKeys> {
    let hash = match stored.mechanism.as_str() {
        "SCRAM-SHA-1" => ScramHash::Sha1,
        "SCRAM-SHA-256" => ScramHash::Sha256,
        _ => return None,
    };
    Some(ScramKeys {
        hash,
        salt: stored.salt,
        iterations: stored.iterations,
        stored_key: stored.stored_key,
        server_key: stored.server_key,
    })
}
