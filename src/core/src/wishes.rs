//! What a client gets together with its log-in (XEP-0386, XEP-0484).

use std::time::Duration;

use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gatehouse_net::now;
use gatehouse_store::{AccountVersion, FastToken, StoreError};
use gatehouse_types::{Chain, Jid};
use gatehouse_xmpp::sasl::TokenMechanism;
use gatehouse_xmpp::{BindWish, Granted, GrantedSession, StanzaCondition, Wishes};
use tracing::{debug, error};

use crate::management::unguessable_name;
use crate::session::Client;
use crate::stamp;

/// How long a token is good. One that has less than half of it left is replaced when it is used.
const TOKEN_LIFE: Duration = Duration::from_secs(14 * 24 * 60 * 60);

impl Client {
    /// Does what a client wants that has proved who it is.
    pub(crate) async fn fulfil(&mut self, wishes: Wishes) {
        let Some((account, version)) = self.proved() else { return };
        let token = match self.exchange_token(version, &wishes).await {
            Ok(token) => token,
            Err(failure) => {
                error!(error = %Chain(&failure), "cannot keep tokens; the client gets none");
                None
            }
        };
        let mut not_resumed = None;
        if let Some((id, h)) = wishes.resume {
            match self.ports.router.take_over(&account, version, &id).await {
                Ok(bound) => {
                    return self.take_up(bound, h, |machine, full, handled| {
                        let session = GrantedSession::Resumed { full, id, h: handled };
                        machine.grant(Granted { session, not_resumed: None, token }, now());
                    });
                }
                Err(handled) => not_resumed = Some(handled),
            }
        }
        let session = match wishes.bind {
            Some(wish) => self.bind_at_once(&account, version, wishes.client, wish).await,
            None => GrantedSession::Later,
        };
        self.connection.machine_mut().grant(Granted { session, not_resumed, token }, now());
    }

    async fn bind_at_once(
        &mut self,
        account: &Jid,
        version: AccountVersion,
        client: Option<String>,
        wish: BindWish,
    ) -> GrantedSession {
        let own = match client {
            Some(client) => Some(self.own_part(account, &client)),
            None => unguessable_name(),
        };
        let Some(own) = own else {
            error!("no randomness: a client could not be given a resource");
            return GrantedSession::Refused(StanzaCondition::InternalServerError);
        };
        // A tag that cannot stand in an address is left out.
        let tagged = wish.tag.map(|tag| format!("{tag}~{own}"));
        let resource = tagged.filter(|it| account.with_resource(it).is_ok()).unwrap_or(own);
        let full = match self.bind_resource(account, version, &resource).await {
            Ok(full) => full,
            Err(refusal) => {
                debug!(reason = %refusal.text, "a client was not bound");
                return GrantedSession::Refused(refusal.condition);
            }
        };
        let (mut managed, acknowledging) = (None, self.acknowledging());
        if let Some(bound) = &mut self.bound {
            bound.inactive = wish.inactive;
            bound.session.with(|state| state.carbons = wish.carbons);
            managed = wish.manage.map(|wanted| bound.manage(wanted, acknowledging));
        }
        GrantedSession::Bound { full, managed }
    }

    /// The same for one installation each time, so that it replaces its own session and no other; and
    /// nobody else can tell what it is made of.
    fn own_part(&self, account: &Jid, client: &str) -> String {
        let secret = self.ports.config.decoy_secret.reveal();
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
        context.update(format!("resource\0{account}\0{client}").as_bytes());
        let bytes: Vec<u8> = context.sign().as_ref().iter().copied().take(9).collect();
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Takes tokens away and gives new ones; the new one and when it expires.
    async fn exchange_token(
        &mut self,
        version: AccountVersion,
        wishes: &Wishes,
    ) -> Result<Option<(String, String)>, StoreError> {
        let tokens = std::mem::take(&mut self.tokens);
        let Some(client) = &wishes.client else { return Ok(None) };
        let (store, now_ms) = (&self.ports.router.store, self.ports.router.clock.now_ms());
        let used = wishes.used.and_then(|(mechanism, index)| Some((mechanism, tokens.get(index)?)));
        if used.is_some_and(|(_, token)| token.is_fresh) {
            store.use_fresh_token(version, client).await?;
        }
        let life_ms = i64::try_from(TOKEN_LIFE.as_millis()).unwrap_or(i64::MAX);
        let is_old = |token: &FastToken| token.expires_ms.saturating_sub(now_ms) < life_ms / 2;
        let renewed = used.filter(|(_, token)| is_old(token) && !wishes.invalidate);
        let wanted: Option<TokenMechanism> =
            wishes.token.or_else(|| renewed.map(|(mechanism, _)| mechanism));
        // Who begins anew with a password has lost what it had.
        if wishes.invalidate || (used.is_none() && wanted.is_some()) {
            store.remove_tokens(version, client).await?;
        }
        let Some(mechanism) = wanted else { return Ok(None) };
        let expires_ms = now_ms.saturating_add(life_ms);
        let (Some(token), Some(expiry)) = (new_token(), stamp::text(expires_ms)) else {
            return Ok(None);
        };
        let kept = FastToken { token: token.clone(), is_fresh: true, expires_ms };
        let is_kept = store.add_token(version, client, mechanism.name(), &kept, now_ms).await?;
        Ok(is_kept.then_some((token, expiry)))
    }
}

/// 256 random bits.
fn new_token() -> Option<String> {
    let mut random = [0; 32];
    rand::fill(&mut random).ok()?;
    Some(URL_SAFE_NO_PAD.encode(random))
}
