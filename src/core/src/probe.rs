//! Answers to presence probes (RFC 6121, section 4.3.2).

use std::sync::Arc;

use gatehouse_types::Jid;
use gatehouse_xmpp::Stanza;

use crate::account::{Account, Session};
use crate::presence;
use crate::refusal::Refusal;
use crate::router::{Consequences, Router};

/// What the prober may know.
enum Right {
    /// Everything: a watcher, or the user's own other resource.
    All,
    /// What it was shown by directed presence. It waits for an answer to its request; none is an
    /// answer too.
    Waits,
    /// Only what it was shown by directed presence.
    Stranger,
}

impl Router {
    /// Answers a probe for a local user.
    pub(crate) async fn answer_probe(
        &self,
        account: &Account,
        probe: &Stanza,
        consequences: &mut Consequences,
    ) -> Result<(), Refusal> {
        let (Some(prober), Some(to)) = (probe.from(), probe.to()) else { return Ok(()) };
        let mut sessions = account.sessions();
        sessions.retain(|session| to.is_bare() || session.jid == *to);
        match self.right(account, prober).await? {
            Right::All => {
                let mut answers: Vec<Stanza> = sessions
                    .iter()
                    .filter_map(|session| session.presence())
                    .map(|presence| presence::copy_for(&presence, prober))
                    .collect();
                if answers.is_empty() {
                    let gone = presence::of_type(Some("unavailable"), to.clone(), prober.clone());
                    answers.extend(gone);
                }
                consequences.extend(answers);
            }
            Right::Waits => consequences.extend(shown_to_stranger(&sessions, prober)),
            Right::Stranger => {
                let answers = shown_to_stranger(&sessions, prober);
                if answers.is_empty() {
                    // Its server believes in a subscription that is not there.
                    let (from, to) = (account.jid.clone(), prober.to_bare());
                    consequences.extend(presence::of_type(Some("unsubscribed"), from, to));
                }
                consequences.extend(answers);
            }
        }
        Ok(())
    }

    async fn right(&self, account: &Account, prober: &Jid) -> Result<Right, Refusal> {
        if prober.same_bare(&account.jid) {
            return Ok(Right::All);
        }
        let contact = self.store.contact(&account.jid, &prober.to_bare()).await?;
        Ok(match contact {
            Some(contact) if presence::is_watcher(&contact) => Right::All,
            Some(contact) if contact.pending_in.is_some() => Right::Waits,
            _ => Right::Stranger,
        })
    }
}

/// RFC 6121, section 4.3.2, case 4: whoever got directed presence learns that the resource is there,
/// and nothing else: what it says now was not meant for the prober.
fn shown_to_stranger(sessions: &[Arc<Session>], prober: &Jid) -> Vec<Stanza> {
    let bare = prober.to_bare();
    sessions
        .iter()
        .filter(|session| {
            session.with(|state| state.directed.contains(prober) || state.directed.contains(&bare))
        })
        .filter_map(|session| presence::of_type(None, session.jid.clone(), prober.clone()))
        .collect()
}
