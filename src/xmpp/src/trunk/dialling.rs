use crate::stream::CloseReason;

/// How far the dialling end has come. The acceptor's certificate was judged before the first byte.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::trunk) enum Dialling {
    /// Our header is out.
    AwaitHeader,
    /// Its header came.
    AwaitMechanisms,
    /// We asked for EXTERNAL.
    Authenticating,
    /// Authenticated, our second header is out.
    AwaitNewHeader,
    /// Its second header came.
    AwaitManagement,
    /// We asked for our old session.
    AwaitResumed,
    /// We asked for a new session.
    AwaitEnabled,
}

/// What the acceptor said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::trunk) enum Heard {
    Header,
    Features { external: bool, management: bool },
    Success,
    AuthenticationFailure { condition: String },
    Resumed { h: u32 },
    Enabled { id: Option<String> },
    Failed { h: Option<u32> },
    Other,
}

/// What to do about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::trunk) enum Deed {
    Nothing,
    Authenticate,
    Restart,
    /// Ask for the old session.
    Resume,
    /// Ask for a new session.
    Enable,
    /// The old session is gone, as far as the peer remembers it; ask for a new one.
    EnableInstead {
        h: Option<u32>,
    },
    /// Open, with the old session.
    GoOn {
        h: u32,
    },
    /// Open, with a new session.
    Begin {
        id: Option<String>,
    },
}

/// Where that leads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::trunk) enum Next {
    Dialling(Dialling),
    Open,
}

/// Whether there is a session to ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::trunk) enum Memory {
    Session,
    None,
}

impl Dialling {
    /// Takes one step. What is not listed ends the stream.
    pub(in crate::trunk) fn step(
        self,
        heard: Heard,
        memory: Memory,
    ) -> Result<(Next, Deed), CloseReason> {
        let (next, deed) = match (self, heard) {
            (Self::AwaitHeader, Heard::Header) => (Self::AwaitMechanisms, Deed::Nothing),
            (Self::AwaitMechanisms, Heard::Features { external: true, .. }) => {
                (Self::Authenticating, Deed::Authenticate)
            }
            (Self::AwaitMechanisms, Heard::Features { .. }) => {
                return Err(no_agreement("the peer does not offer SASL EXTERNAL"));
            }
            (Self::Authenticating, Heard::Success) => (Self::AwaitNewHeader, Deed::Restart),
            (Self::Authenticating, Heard::AuthenticationFailure { condition }) => {
                return Err(no_agreement(format!(
                    "the peer does not accept our certificate: {condition}"
                )));
            }
            (Self::AwaitNewHeader, Heard::Header) => (Self::AwaitManagement, Deed::Nothing),
            (Self::AwaitManagement, Heard::Features { management: true, .. }) => match memory {
                Memory::Session => (Self::AwaitResumed, Deed::Resume),
                Memory::None => (Self::AwaitEnabled, Deed::Enable),
            },
            (Self::AwaitManagement, Heard::Features { .. }) => {
                return Err(no_agreement("the peer does not offer stream management"));
            }
            (Self::AwaitResumed, Heard::Resumed { h }) => {
                return Ok((Next::Open, Deed::GoOn { h }));
            }
            (Self::AwaitResumed, Heard::Failed { h }) => {
                (Self::AwaitEnabled, Deed::EnableInstead { h })
            }
            (Self::AwaitEnabled, Heard::Enabled { id }) => {
                return Ok((Next::Open, Deed::Begin { id }));
            }
            (Self::AwaitEnabled, Heard::Failed { .. }) => {
                return Err(no_agreement("the peer refuses stream management"));
            }
            (state, _) => return Err(no_agreement(format!("out of turn in {state:?}"))),
        };
        Ok((Next::Dialling(next), deed))
    }
}

fn no_agreement(text: impl Into<String>) -> CloseReason {
    CloseReason::NoAgreement(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every state meets every input. What closes the stream is left out of the table but counted.
    #[test]
    fn transition_table() {
        use Dialling::*;
        let states = [
            AwaitHeader,
            AwaitMechanisms,
            Authenticating,
            AwaitNewHeader,
            AwaitManagement,
            AwaitResumed,
            AwaitEnabled,
        ];
        let features = |external, management| Heard::Features { external, management };
        let inputs = [
            Heard::Header,
            features(true, false),
            features(false, true),
            features(false, false),
            Heard::Success,
            Heard::AuthenticationFailure { condition: "not-authorized".into() },
            Heard::Resumed { h: 3 },
            Heard::Enabled { id: None },
            Heard::Failed { h: None },
            Heard::Other,
        ];
        let (mut table, mut closed) = (String::new(), 0);
        for state in states {
            for input in &inputs {
                for memory in [Memory::Session, Memory::None] {
                    match state.step(input.clone(), memory) {
                        Ok((next, deed)) => {
                            let next = match next {
                                Next::Dialling(next) => format!("{next:?}"),
                                Next::Open => "Open".into(),
                            };
                            table +=
                                &format!("{state:?} + {input:?} ({memory:?}) -> {next} {deed:?}\n");
                        }
                        Err(_) => closed += 1,
                    }
                }
            }
        }
        insta::assert_snapshot!(table, @r"
        AwaitHeader + Header (Session) -> AwaitMechanisms Nothing
        AwaitHeader + Header (None) -> AwaitMechanisms Nothing
        AwaitMechanisms + Features { external: true, management: false } (Session) -> Authenticating Authenticate
        AwaitMechanisms + Features { external: true, management: false } (None) -> Authenticating Authenticate
        Authenticating + Success (Session) -> AwaitNewHeader Restart
        Authenticating + Success (None) -> AwaitNewHeader Restart
        AwaitNewHeader + Header (Session) -> AwaitManagement Nothing
        AwaitNewHeader + Header (None) -> AwaitManagement Nothing
        AwaitManagement + Features { external: false, management: true } (Session) -> AwaitResumed Resume
        AwaitManagement + Features { external: false, management: true } (None) -> AwaitEnabled Enable
        AwaitResumed + Resumed { h: 3 } (Session) -> Open GoOn { h: 3 }
        AwaitResumed + Resumed { h: 3 } (None) -> Open GoOn { h: 3 }
        AwaitResumed + Failed { h: None } (Session) -> AwaitEnabled EnableInstead { h: None }
        AwaitResumed + Failed { h: None } (None) -> AwaitEnabled EnableInstead { h: None }
        AwaitEnabled + Enabled { id: None } (Session) -> Open Begin { id: None }
        AwaitEnabled + Enabled { id: None } (None) -> Open Begin { id: None }
        ");
        assert_eq!(closed, states.len() * inputs.len() * 2 - 16);
    }
}
