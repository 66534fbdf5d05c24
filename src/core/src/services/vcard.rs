//! vCards (XEP-0054): everybody may read, the owner may write.

use gatehouse_types::Chain;
use gatehouse_xmpp::{Element, StanzaCondition, ns};
use tracing::warn;

use super::Answer;
use crate::account::Account;
use crate::refusal::Refusal;
use crate::router::Router;
use crate::xml;

/// The longest vCard; a photo is most of it.
const VCARD_BYTES_MAX: usize = 64 * 1024;

impl Router {
    /// For others: who has no vCard looks like who has no account (XEP-0054, section 3.3).
    pub(super) async fn vcard_of(&self, account: &Account, query: &Element) -> Answer {
        check(query)?;
        self.read_vcard(account).await?.map(Some).ok_or_else(Refusal::unavailable)
    }

    /// For the owner: an empty one if there is none yet.
    pub(super) async fn own_vcard(&self, account: &Account, query: &Element) -> Answer {
        check(query)?;
        let vcard = self.read_vcard(account).await?;
        Ok(Some(vcard.unwrap_or_else(|| xml::element("vCard", ns::VCARD))))
    }

    pub(super) async fn set_vcard(
        &self,
        account: &Account,
        vcard: &Element,
    ) -> Result<(), Refusal> {
        check(vcard)?;
        let text = xml::storable(vcard).ok_or_else(|| {
            Refusal::modify(
                StanzaCondition::NotAcceptable,
                "This vCard holds XML that cannot be stored.",
            )
        })?;
        if text.len() > VCARD_BYTES_MAX {
            return Err(Refusal::modify(
                StanzaCondition::NotAcceptable,
                format!("A vCard has at most {VCARD_BYTES_MAX} bytes; choose a smaller photo."),
            ));
        }
        Ok(self.store.set_vcard(&account.jid, &text).await?)
    }

    async fn read_vcard(&self, account: &Account) -> Result<Option<Element>, Refusal> {
        let Some(text) = self.store.vcard(&account.jid).await? else { return Ok(None) };
        match text.parse() {
            Ok(vcard) => Ok(Some(vcard)),
            Err(failure) => {
                warn!(account = %account.jid, error = %Chain(&failure), "a stored vCard cannot be read");
                Ok(None)
            }
        }
    }
}

fn check(query: &Element) -> Result<(), Refusal> {
    if query.name() == "vCard" { Ok(()) } else { Err(Refusal::unavailable()) }
}
