//! The end that dialled.

use std::sync::Arc;
use std::time::Instant;

use gatehouse_identity::{TlsFacts, prove};
use gatehouse_types::{Domain, Remote};

use super::{Fault, State, TrunkEnd, check_version};
use crate::framing::StreamHeader;
use crate::sm::Session;
use crate::stream::CloseReason;
use crate::trunk::dialling::{self, Dialling, Memory};
use crate::trunk::wire;
use crate::trunk::{Continuity, TrunkConfig, TrunkEvent};
use crate::{Seed, Stanza, StreamCondition, StreamError};

impl<T: AsRef<Stanza>> TrunkEnd<T> {
    /// The end that dialled `peer`; TLS is up. `session` is what the last connection left, or a
    /// fresh one; if it has a name it is resumed, else what it holds is sent on a new one.
    ///
    /// Closes without a word if the peer's certificate does not prove `peer`.
    pub fn dialler(
        config: Arc<TrunkConfig>,
        peer: Domain,
        session: Session<T>,
        facts: TlsFacts,
        seed: Seed,
        now: Instant,
    ) -> Self {
        let state = State::Dialling(Dialling::AwaitHeader);
        let mut end = Self::new(config, state, session, facts, seed, now);
        match prove(&end.presented, &Remote(peer.clone())) {
            Ok(_) => end.write_header(Some(&peer)),
            Err(error) => end.close(CloseReason::NoAgreement(format!("it is not {peer}: {error}"))),
        }
        end.peer = Some(peer);
        end
    }

    /// The acceptor must call itself what its certificate says.
    pub(super) fn check_acceptor(&self, header: &StreamHeader) -> Result<(), Fault> {
        check_version(header)?;
        let name = header.from.as_deref().and_then(|from| from.parse::<Domain>().ok());
        if name.is_some() && name == self.peer {
            return Ok(());
        }
        Err(StreamError::from(StreamCondition::InvalidFrom).into())
    }

    pub(super) fn dial(
        &mut self,
        state: Dialling,
        heard: dialling::Heard,
        now: Instant,
    ) -> Result<(), Fault> {
        use dialling::{Deed, Next};
        let seconds = self.config.resume_timeout.as_secs();
        let memory = if self.flow.session.id.is_some() { Memory::Session } else { Memory::None };
        let (next, deed) = state.step(heard, memory).map_err(Fault::Leave)?;
        if let Next::Dialling(next) = next {
            self.state = State::Dialling(next);
        }
        match deed {
            Deed::Nothing => {}
            Deed::Authenticate => wire::write(&mut self.out, &wire::auth()),
            Deed::Restart => {
                self.restart();
                let peer = self.peer.clone();
                self.write_header(peer.as_ref());
            }
            Deed::Resume => {
                let h = self.flow.resume();
                let id = self.flow.session.id.as_deref().unwrap_or_default();
                wire::write(&mut self.out, &wire::resume("resume", id, h));
            }
            Deed::Enable => {
                self.flow.renew();
                wire::write(&mut self.out, &wire::enable(seconds));
            }
            Deed::EnableInstead { h } => {
                // XEP-0198, section 5: a peer that remembers the number but not the rest says so.
                if let Some(h) = h {
                    let done = self.flow.acknowledged(h, now).map_err(Fault::Count)?;
                    self.events.push_back(TrunkEvent::Acknowledged(done));
                }
                self.flow.renew();
                wire::write(&mut self.out, &wire::enable(seconds));
            }
            Deed::GoOn { h } => {
                let done = self.flow.acknowledged(h, now).map_err(Fault::Count)?;
                self.events.push_back(TrunkEvent::Acknowledged(done));
                self.open(Continuity::Resumed, now);
            }
            Deed::Begin { id } => {
                self.flow.session.id = id;
                self.open(Continuity::New, now);
            }
        }
        Ok(())
    }
}
