use gatehouse_types::{Domain, Jid};

use super::keys::{Credential, ScramKeys};
use super::plain::{Password, PlainMessage};
use super::scram::{AwaitProof, ClientFirst};
use super::{Failure, Mechanism};
use crate::Seed;

/// Where and over what a client authenticates.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// The domain of the stream: whose accounts these are.
    pub(crate) domain: &'a Domain,
    /// Keying material of the TLS connection (RFC 9266).
    pub(crate) exporter: Option<&'a [u8; 32]>,
}

/// The client said who it is; its keys are being looked up.
pub(crate) struct Opening {
    mechanism: Mechanism,
    account: Jid,
    message: Message,
}

enum Message {
    Plain(Password),
    Scram(ClientFirst),
}

/// What follows from a client's first message and the account's keys.
pub(crate) enum Answer {
    /// Send this and wait for the proof.
    Challenge(AwaitProof, String),
    /// The client is who it says it is.
    Proved,
    /// It is not.
    Refused(Failure),
}

impl Opening {
    /// Reads the first message of `mechanism`. Nothing here depends on whether the account exists.
    pub(crate) fn read(
        mechanism: Mechanism,
        message: &[u8],
        terms: Terms<'_>,
    ) -> Result<Self, Failure> {
        let (authzid, username, message) = match mechanism {
            Mechanism::Plain => {
                let plain = PlainMessage::read(message)?;
                let authzid = Some(plain.authzid).filter(|authzid| !authzid.is_empty());
                (authzid, plain.authcid, Message::Plain(plain.password))
            }
            _ => {
                let mut first = ClientFirst::read(message, mechanism, terms.exporter)?;
                let username = std::mem::take(&mut first.username);
                (first.authzid.take(), username, Message::Scram(first))
            }
        };
        // There is no account with a name that cannot be one.
        let account =
            Jid::of_account(&username, terms.domain).map_err(|_| Failure::NotAuthorized)?;
        // RFC 6120, section 6.3.8: a client's authorization identity is a bare address. Nobody here
        // may act for another account.
        if authzid.is_some_and(|authzid| authzid.parse::<Jid>().as_ref() != Ok(&account)) {
            return Err(Failure::InvalidAuthzid);
        }
        Ok(Self { mechanism, account, message })
    }

    pub(crate) fn account(&self) -> &Jid {
        &self.account
    }

    pub(crate) fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Goes on with the keys of the account; none if there is no such account.
    pub(crate) fn answer(
        self,
        stored: Vec<ScramKeys>,
        decoy_secret: &[u8],
        seed: &mut Seed,
    ) -> Answer {
        let credential =
            Credential::select(stored, self.mechanism.hash(), &self.account, decoy_secret);
        match self.message {
            Message::Plain(password) => match password.check(&credential) {
                Ok(()) => Answer::Proved,
                Err(failure) => Answer::Refused(failure),
            },
            Message::Scram(first) => {
                let (await_proof, challenge) = first.challenge(credential, &seed.next_hex());
                Answer::Challenge(await_proof, challenge)
            }
        }
    }
}

#[cfg(test)]
mod tests;
