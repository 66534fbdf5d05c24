//! The end that was dialled.

use std::sync::Arc;
use std::time::Instant;

use gatehouse_identity::{AuthenticatedPeer, TlsFacts, prove};
use gatehouse_types::{Domain, Remote};

use super::{Fault, State, TrunkEnd, check_version};
use crate::framing::StreamHeader;
use crate::sm::Session;
use crate::stream::CloseReason;
use crate::trunk::accepting::{self, Accepting, Wish};
use crate::trunk::flow::Flow;
use crate::trunk::wire;
use crate::trunk::{Continuity, TrunkConfig, TrunkEvent};
use crate::{Seed, Stanza, StreamCondition, StreamError};

impl<T: AsRef<Stanza>> TrunkEnd<T> {
    /// The end that was dialled; TLS is up. Only [`TrunkConfig::peers`] get in.
    pub fn acceptor(config: Arc<TrunkConfig>, facts: TlsFacts, seed: Seed, now: Instant) -> Self {
        let state = State::Accepting(Accepting::AwaitHeader);
        Self::new(config, state, Session::default(), facts, seed, now)
    }

    /// Answers [`TrunkEvent::Enable`]. What `session` holds is sent first.
    ///
    /// Gives it back if that is not what the peer waits for, any more.
    #[expect(clippy::result_large_err, reason = "it goes back to where it came from")]
    pub fn admit(&mut self, session: Session<T>, now: Instant) -> Result<(), Session<T>> {
        if !matches!(self.state, State::Accepting(Accepting::Deciding(_, Wish::New))) {
            return Err(session);
        }
        let id = self.seed.next_hex();
        wire::write(&mut self.out, &wire::enabled(&id, self.config.resume_timeout.as_secs()));
        self.flow = Flow::new(session.renew(), self.config.pace, now);
        self.flow.session.id = Some(id);
        self.open(Continuity::New, now);
        self.pump(now);
        Ok(())
    }

    /// Answers [`TrunkEvent::Resume`] with the session of that name.
    ///
    /// Gives it back if that is not what the peer waits for, any more.
    #[expect(clippy::result_large_err, reason = "it goes back to where it came from")]
    pub fn resume(&mut self, session: Session<T>, now: Instant) -> Result<(), Session<T>> {
        let State::Accepting(Accepting::Deciding(_, Wish::Old { id, h })) = &self.state else {
            return Err(session);
        };
        let (id, h) = (id.clone(), *h);
        self.flow = Flow::new(session, self.config.pace, now);
        match self.flow.acknowledged(h, now) {
            Ok(done) => {
                self.events.push_back(TrunkEvent::Acknowledged(done));
                let ours = self.flow.resume();
                wire::write(&mut self.out, &wire::resume("resumed", &id, ours));
                self.open(Continuity::Resumed, now);
                self.pump(now);
            }
            Err(error) => self.fail(Fault::Count(error)),
        }
        Ok(())
    }

    /// Answers [`TrunkEvent::Resume`] where there is no such session; the peer may enable a new one.
    pub fn refuse_resume(&mut self, now: Instant) {
        let State::Accepting(Accepting::Deciding(peer, Wish::Old { .. })) = &self.state else {
            return;
        };
        self.state = State::Accepting(Accepting::AwaitSession(peer.clone()));
        wire::write(&mut self.out, &wire::failed());
        self.pump(now);
    }

    /// Who dials: it must be called by our name, say a name that we know, and prove it.
    pub(super) fn judge_dialler(&self, header: &StreamHeader) -> Result<AuthenticatedPeer, Fault> {
        check_version(header)?;
        let to = header.to.as_deref().and_then(|to| to.parse::<Domain>().ok());
        if to.as_ref() != Some(&self.config.own) {
            return Err(StreamError::from(StreamCondition::HostUnknown).into());
        }
        let refuse = |why: String| Fault::Leave(CloseReason::NoAgreement(why));
        let from = header.from.as_deref().unwrap_or_default();
        let shown: String = from.chars().take(80).collect();
        let name = from
            .parse::<Domain>()
            .map_err(|_| refuse(format!("`{shown}` is not the name of a node")))?;
        if !self.config.peers.contains(&name) {
            return Err(refuse(format!("{name} is not one of the cores that this edge lets in")));
        }
        prove(&self.presented, &Remote(name.clone()))
            .map_err(|error| refuse(format!("it does not prove to be {name}: {error}")))
    }

    pub(super) fn accept(&mut self, heard: accepting::Heard) -> Result<(), Fault> {
        use accepting::Deed;
        let State::Accepting(state) = &self.state else { return Ok(()) };
        let (next, deed) = state.clone().step(heard)?;
        match (&deed, &next) {
            (Deed::OfferExternal, Accepting::AwaitAuth(peer)) => {
                let peer = peer.domain().0.clone();
                self.write_header(Some(&peer));
                wire::write(&mut self.out, &wire::mechanisms());
            }
            (Deed::Accept, _) => {
                wire::write(&mut self.out, &wire::success());
                self.restart();
            }
            (Deed::OfferManagement, Accepting::AwaitSession(peer)) => {
                let peer = peer.domain().0.clone();
                self.write_header(Some(&peer));
                wire::write(&mut self.out, &wire::management());
            }
            (Deed::Ask, Accepting::Deciding(peer, Wish::New)) => {
                self.events.push_back(TrunkEvent::Enable(peer.clone()));
            }
            (Deed::Ask, Accepting::Deciding(peer, Wish::Old { id, .. })) => {
                let (peer, id) = (peer.clone(), id.clone());
                self.events.push_back(TrunkEvent::Resume { peer, id });
            }
            (Deed::RefuseMechanism, _) => {
                wire::write(&mut self.out, &wire::auth_failure("invalid-mechanism"));
            }
            (Deed::OfferExternal | Deed::OfferManagement | Deed::Ask, _) => {}
        }
        self.state = State::Accepting(next);
        Ok(())
    }
}
