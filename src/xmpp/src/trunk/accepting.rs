use gatehouse_identity::AuthenticatedPeer;

use crate::{StreamCondition, StreamError};

/// How far the accepting end has come. Each state holds what is true in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::trunk) enum Accepting {
    /// TLS is up; nobody has said a word.
    AwaitHeader,
    /// The certificate proves the name in the header, and we know that name.
    AwaitAuth(AuthenticatedPeer),
    /// It chose EXTERNAL.
    AwaitNewHeader(AuthenticatedPeer),
    /// Authenticated; a session must come next.
    AwaitSession(AuthenticatedPeer),
    /// The owner has been asked for a session; nothing is read meanwhile.
    Deciding(AuthenticatedPeer, Wish),
}

/// Which session the dialler wants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::trunk) enum Wish {
    New,
    Old { id: String, h: u32 },
}

/// What the dialler said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::trunk) enum Heard {
    /// A header for us from a node that we know and whose certificate proves it.
    Header(AuthenticatedPeer),
    External,
    OtherMechanism,
    Session(Wish),
    Other,
}

/// What to do about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::trunk) enum Deed {
    OfferExternal,
    Accept,
    OfferManagement,
    /// Ask the owner.
    Ask,
    /// Say that this mechanism will not do; it may try another one.
    RefuseMechanism,
}

impl Accepting {
    /// Takes one step. What is not listed ends the stream.
    pub(in crate::trunk) fn step(self, heard: Heard) -> Result<(Self, Deed), StreamError> {
        Ok(match (self, heard) {
            (Self::AwaitHeader, Heard::Header(peer)) => {
                (Self::AwaitAuth(peer), Deed::OfferExternal)
            }
            (Self::AwaitAuth(peer), Heard::External) => (Self::AwaitNewHeader(peer), Deed::Accept),
            (Self::AwaitAuth(peer), Heard::OtherMechanism) => {
                (Self::AwaitAuth(peer), Deed::RefuseMechanism)
            }
            (Self::AwaitNewHeader(peer), Heard::Header(same)) if same == peer => {
                (Self::AwaitSession(peer), Deed::OfferManagement)
            }
            (Self::AwaitNewHeader(_), Heard::Header(_)) => {
                return Err(StreamError::new(
                    StreamCondition::InvalidFrom,
                    "not the name that authenticated",
                ));
            }
            (Self::AwaitSession(peer), Heard::Session(wish)) => {
                (Self::Deciding(peer, wish), Deed::Ask)
            }
            (Self::AwaitSession(_), Heard::Other) => {
                return Err(StreamError::new(
                    StreamCondition::PolicyViolation,
                    "no stanzas without stream management",
                ));
            }
            (Self::AwaitHeader | Self::AwaitAuth(_), _) => {
                return Err(StreamCondition::NotAuthorized.into());
            }
            (_, _) => return Err(StreamCondition::PolicyViolation.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_types::{Domain, Remote};

    use super::*;

    fn peer(name: &str) -> AuthenticatedPeer {
        // Any proof will do here; a trunk machine itself only ever asks for certificates.
        AuthenticatedPeer::by_dialback(Remote(name.parse::<Domain>().unwrap()))
    }

    fn name(state: &Accepting) -> &'static str {
        match state {
            Accepting::AwaitHeader => "AwaitHeader",
            Accepting::AwaitAuth(_) => "AwaitAuth",
            Accepting::AwaitNewHeader(_) => "AwaitNewHeader",
            Accepting::AwaitSession(_) => "AwaitSession",
            Accepting::Deciding(..) => "Deciding",
        }
    }

    /// Every state meets every input.
    #[test]
    fn transition_table() {
        let core = || peer("core.example");
        let states = [
            Accepting::AwaitHeader,
            Accepting::AwaitAuth(core()),
            Accepting::AwaitNewHeader(core()),
            Accepting::AwaitSession(core()),
            Accepting::Deciding(core(), Wish::New),
        ];
        let inputs = [
            ("header", Heard::Header(core())),
            ("another's header", Heard::Header(peer("other.example"))),
            ("EXTERNAL", Heard::External),
            ("PLAIN", Heard::OtherMechanism),
            ("enable", Heard::Session(Wish::New)),
            ("resume", Heard::Session(Wish::Old { id: "x".into(), h: 0 })),
            ("other", Heard::Other),
        ];
        let mut table = String::new();
        for state in &states {
            for (input, heard) in &inputs {
                let outcome = match state.clone().step(heard.clone()) {
                    Ok((next, deed)) => format!("{} {deed:?}", name(&next)),
                    Err(error) => format!("closed: {error}"),
                };
                table += &format!("{} + {input} -> {outcome}\n", name(state));
            }
        }
        insta::assert_snapshot!(table, @r"
        AwaitHeader + header -> AwaitAuth OfferExternal
        AwaitHeader + another's header -> AwaitAuth OfferExternal
        AwaitHeader + EXTERNAL -> closed: not-authorized
        AwaitHeader + PLAIN -> closed: not-authorized
        AwaitHeader + enable -> closed: not-authorized
        AwaitHeader + resume -> closed: not-authorized
        AwaitHeader + other -> closed: not-authorized
        AwaitAuth + header -> closed: not-authorized
        AwaitAuth + another's header -> closed: not-authorized
        AwaitAuth + EXTERNAL -> AwaitNewHeader Accept
        AwaitAuth + PLAIN -> AwaitAuth RefuseMechanism
        AwaitAuth + enable -> closed: not-authorized
        AwaitAuth + resume -> closed: not-authorized
        AwaitAuth + other -> closed: not-authorized
        AwaitNewHeader + header -> AwaitSession OfferManagement
        AwaitNewHeader + another's header -> closed: invalid-from (not the name that authenticated)
        AwaitNewHeader + EXTERNAL -> closed: policy-violation
        AwaitNewHeader + PLAIN -> closed: policy-violation
        AwaitNewHeader + enable -> closed: policy-violation
        AwaitNewHeader + resume -> closed: policy-violation
        AwaitNewHeader + other -> closed: policy-violation
        AwaitSession + header -> closed: policy-violation
        AwaitSession + another's header -> closed: policy-violation
        AwaitSession + EXTERNAL -> closed: policy-violation
        AwaitSession + PLAIN -> closed: policy-violation
        AwaitSession + enable -> Deciding Ask
        AwaitSession + resume -> Deciding Ask
        AwaitSession + other -> closed: policy-violation (no stanzas without stream management)
        Deciding + header -> closed: policy-violation
        Deciding + another's header -> closed: policy-violation
        Deciding + EXTERNAL -> closed: policy-violation
        Deciding + PLAIN -> closed: policy-violation
        Deciding + enable -> closed: policy-violation
        Deciding + resume -> closed: policy-violation
        Deciding + other -> closed: policy-violation
        ");
    }
}
