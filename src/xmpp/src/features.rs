//! Stream features: one function per side builds them from the state, so that no code path can
//! forget one.

use gatehouse_types::StreamLimits;
use minidom::Element;

use crate::ns;
use crate::s2s::{Authentication, Bidi, Encryption, Terms};

/// What the receiver of an S2S stream knows when it builds its features.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct S2sState {
    /// Whether the stream is encrypted.
    pub channel: S2sChannel,
    /// What the initiator's certificate says about the domain in its header.
    pub certificate: CertificateState,
    /// What the pair of domains must do; `None` while the initiator has not said who it is.
    pub terms: Option<Terms>,
    /// Whether a pair of domains is open already.
    pub progress: S2sProgress,
    /// Whether we want stanzas to go both ways on one stream.
    pub bidi: Bidi,
}

/// Whether a stream is encrypted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum S2sChannel {
    /// TCP.
    Plain,
    /// TLS.
    Tls,
}

/// What a certificate says about a claimed domain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CertificateState {
    /// There is no TLS, or nothing was claimed yet.
    Unjudged,
    /// It proves the claimed domain.
    Proves,
    /// It does not, or there is none.
    Fails,
}

/// How far an S2S stream has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum S2sProgress {
    /// No pair of domains is open.
    Unauthenticated,
    /// At least one is.
    Authenticated,
}

/// What the receiver of an S2S stream offers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct S2sOffer {
    /// STARTTLS, and whether it is a must.
    pub starttls: Option<Encryption>,
    /// SASL EXTERNAL: only where it will succeed, because initiators tend to give up after a
    /// failure.
    pub external: bool,
    /// Dialback.
    pub dialback: bool,
    /// Stream management (XEP-0198), on the stream that follows SASL: before, there is nobody who
    /// could be promised anything.
    pub management: bool,
    /// How long a stanza and a silence may be (XEP-0478), where stanzas may follow these features:
    /// after SASL, and where dialback can open the stream.
    pub limits: bool,
    /// Stanzas in both directions (XEP-0288): within TLS, and before anybody is proved, because it
    /// must be asked for then.
    pub bidi: bool,
}

impl S2sOffer {
    /// Decides from the state alone.
    pub fn of(state: S2sState) -> Self {
        let proves = state.certificate == CertificateState::Proves;
        let encryption = state.terms.map_or(Encryption::Required, |terms| terms.encryption);
        let authenticated = state.progress == S2sProgress::Authenticated;
        match state.channel {
            S2sChannel::Plain => Self {
                starttls: (!authenticated).then_some(encryption),
                external: false,
                dialback: encryption == Encryption::Optional && allows_dialback(state.terms),
                management: false,
                limits: encryption == Encryption::Optional && allows_dialback(state.terms),
                bidi: false,
            },
            S2sChannel::Tls => Self {
                starttls: None,
                external: proves && state.terms.is_some() && !authenticated,
                // A certificate that proves the domain makes the answer to a key certain.
                dialback: state.terms.is_some() && (proves || allows_dialback(state.terms)),
                management: state.terms.is_some() && authenticated,
                limits: state.terms.is_some()
                    && (authenticated || proves || allows_dialback(state.terms)),
                bidi: state.bidi == Bidi::Wanted
                    && !authenticated
                    && state.terms.is_some()
                    && (proves || allows_dialback(state.terms)),
            },
        }
    }

    /// `<stream:features/>`.
    pub fn to_element(self, limits: &StreamLimits) -> Element {
        let mut features = Element::bare("features", ns::STREAM);
        if let Some(encryption) = self.starttls {
            let mut starttls = Element::bare("starttls", ns::TLS);
            match encryption {
                Encryption::Required => {
                    starttls.append_child(Element::bare("required", ns::TLS));
                }
                Encryption::Optional => {}
            }
            features.append_child(starttls);
        }
        if self.external {
            let mechanism = Element::builder("mechanism", ns::SASL).append("EXTERNAL").build();
            features
                .append_child(Element::builder("mechanisms", ns::SASL).append(mechanism).build());
        }
        if self.dialback {
            let errors = Element::bare("errors", ns::DIALBACK_FEATURE);
            features.append_child(
                Element::builder("dialback", ns::DIALBACK_FEATURE).append(errors).build(),
            );
        }
        if self.bidi {
            features.append_child(Element::bare("bidi", ns::BIDI_FEATURE));
        }
        if self.management {
            features.append_child(Element::bare("sm", ns::SM));
        }
        if self.limits {
            features.append_child(told(limits));
        }
        features
    }
}

fn told(limits: &StreamLimits) -> Element {
    let number = |name, number: String| Element::builder(name, ns::STREAM_LIMITS).append(number);
    Element::builder("limits", ns::STREAM_LIMITS)
        .append(number("max-bytes", limits.stanza_bytes_max.to_string()).build())
        .append(number("idle-seconds", limits.idle_timeout.as_secs().to_string()).build())
        .build()
}

fn allows_dialback(terms: Option<Terms>) -> bool {
    terms.is_some_and(|terms| terms.authentication == Authentication::CertificateOrDialback)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const CHANNELS: [S2sChannel; 2] = [S2sChannel::Plain, S2sChannel::Tls];
    const CERTIFICATES: [CertificateState; 3] =
        [CertificateState::Unjudged, CertificateState::Proves, CertificateState::Fails];
    const PROGRESS: [S2sProgress; 2] = [S2sProgress::Unauthenticated, S2sProgress::Authenticated];

    fn all_terms() -> Vec<Option<Terms>> {
        let mut all = vec![None];
        for authentication in [Authentication::Certificate, Authentication::CertificateOrDialback] {
            for encryption in [Encryption::Required, Encryption::Optional] {
                all.push(Some(Terms { authentication, encryption }));
            }
        }
        all
    }

    fn all_states() -> impl Iterator<Item = S2sState> {
        CHANNELS.into_iter().flat_map(|channel| {
            CERTIFICATES.into_iter().flat_map(move |certificate| {
                all_terms().into_iter().flat_map(move |terms| {
                    PROGRESS.into_iter().flat_map(move |progress| {
                        [Bidi::Wanted, Bidi::Off].map(|bidi| S2sState {
                            channel,
                            certificate,
                            terms,
                            progress,
                            bidi,
                        })
                    })
                })
            })
        })
    }

    /// What is expected and why, told apart from the code: (STARTTLS, EXTERNAL, dialback,
    /// stream management, reason).
    fn expected(state: S2sState) -> (&'static str, bool, bool, bool, &'static str) {
        use Authentication::{Certificate, CertificateOrDialback};
        use CertificateState::Proves;
        use Encryption::{Optional, Required};
        use S2sChannel::{Plain, Tls};
        use S2sProgress::{Authenticated, Unauthenticated};
        let terms = state.terms.map(|terms| (terms.authentication, terms.encryption));
        match (state.channel, state.certificate, terms, state.progress) {
            (Plain, _, None, Unauthenticated) => {
                ("required", false, false, false, "nobody known: encrypt first")
            }
            (Plain, _, Some((_, Required)), Unauthenticated) => {
                ("required", false, false, false, "no key in the clear where TLS is a must")
            }
            (Plain, _, Some((Certificate, Optional)), Unauthenticated) => {
                ("optional", false, false, false, "a certificate needs TLS")
            }
            (Plain, _, Some((CertificateOrDialback, Optional)), Unauthenticated) => {
                ("optional", false, true, false, "dialback works without TLS")
            }
            (Plain, _, Some((CertificateOrDialback, Optional)), Authenticated) => {
                ("-", false, true, false, "more pairs may follow")
            }
            (Plain, _, _, Authenticated) => ("-", false, false, false, "nothing left to offer"),
            (Tls, _, None, _) => {
                ("-", false, false, false, "nothing can be judged without a claim")
            }
            (Tls, Proves, Some(_), Unauthenticated) => {
                ("-", true, true, false, "the certificate proves it by either way")
            }
            (Tls, Proves, Some(_), Authenticated) => {
                ("-", false, true, true, "more pairs may follow")
            }
            (Tls, _, Some((CertificateOrDialback, _)), progress) => {
                let proved = progress == Authenticated;
                ("-", false, true, proved, "dialback where the certificate proves nothing")
            }
            (Tls, _, Some((Certificate, _)), progress) => {
                let proved = progress == Authenticated;
                ("-", false, false, proved, "only a certificate would do, and it does not")
            }
        }
    }

    #[test]
    fn every_state_offers_what_will_work() {
        for state in all_states() {
            let offer = S2sOffer::of(state);
            let starttls = match offer.starttls {
                Some(Encryption::Required) => "required",
                Some(Encryption::Optional) => "optional",
                None => "-",
            };
            let (want_starttls, external, dialback, management, reason) = expected(state);
            assert_eq!(
                (starttls, offer.external, offer.dialback, offer.management),
                (want_starttls, external, dialback, management),
                "{reason}: {state:?}"
            );
            assert_eq!(offer.limits, dialback || management, "stanzas may follow: {state:?}");
            let bidi = state.channel == S2sChannel::Tls
                && state.progress == S2sProgress::Unauthenticated
                && state.bidi == Bidi::Wanted
                && (external || dialback);
            assert_eq!(offer.bidi, bidi, "while it can be asked for, and safely: {state:?}");
        }
    }

    #[test]
    fn external_never_without_tls_or_proof() {
        for state in all_states() {
            if S2sOffer::of(state).external {
                assert_eq!(state.channel, S2sChannel::Tls);
                assert_eq!(state.certificate, CertificateState::Proves);
            }
        }
    }

    #[test]
    fn features_as_they_are_written() {
        let mut all = String::new();
        for starttls in [None, Some(Encryption::Optional), Some(Encryption::Required)] {
            let offer = S2sOffer {
                starttls,
                external: false,
                dialback: false,
                management: false,
                limits: false,
                bidi: false,
            };
            let mut out = bytes::BytesMut::new();
            let content = crate::framing::ContentNamespace::Server;
            crate::framing::write_element(
                &mut out,
                content,
                &offer.to_element(&StreamLimits::default()),
            );
            writeln!(all, "{}", std::str::from_utf8(&out).unwrap()).unwrap();
        }
        let offer = S2sOffer {
            starttls: None,
            external: true,
            dialback: true,
            management: true,
            limits: true,
            bidi: true,
        };
        let mut out = bytes::BytesMut::new();
        let content = crate::framing::ContentNamespace::Server;
        crate::framing::write_element(
            &mut out,
            content,
            &offer.to_element(&StreamLimits::default()),
        );
        all += std::str::from_utf8(&out).unwrap();
        insta::assert_snapshot!(all, @r"
        <stream:features/>
        <stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>
        <stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>
        <stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms><dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback><bidi xmlns='urn:xmpp:features:bidi'/><sm xmlns='urn:xmpp:sm:3'/><limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>524288</max-bytes><idle-seconds>900</idle-seconds></limits></stream:features>
        ");
    }
}
