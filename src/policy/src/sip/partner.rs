use std::fmt;
use std::num::NonZeroU32;

use gatehouse_types::{Domain, Local, Remote};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::SipRoute;
use crate::rule::Scope;
use crate::{Action, Pattern};

/// One row of the SIP partners (`[[sip]]` in the policy): whom it speaks of, how they are found and
/// what proves them. First match wins; no row means no.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SipPartner {
    /// Shown in logs and to the admin; each row has its own.
    pub name: String,
    /// The partners it speaks of.
    pub remote: Vec<Pattern>,
    /// The domains of ours it speaks of; absent means all.
    #[serde(default)]
    pub local: Option<Vec<Domain>>,
    /// Yes or no.
    #[serde(default)]
    pub action: Action,
    /// How they are found, and how far they are trusted.
    #[serde(default)]
    pub mode: SipMode,
    /// The one host of a `direct` partner, or the proxy of a `provider`.
    #[serde(default)]
    pub host: Option<Domain>,
    /// Where requests go instead of what DNS says.
    #[serde(default)]
    pub route: Option<SipRoute>,
    /// The rules of which one must prove the partner; both, if absent.
    #[serde(default)]
    pub proof: Option<Vec<SipProof>>,
    /// Whether the common name counts in a certificate without any subjectAltName.
    #[serde(default)]
    pub common_name: bool,
    /// What the partner runs; found out from its messages, if absent.
    #[serde(default)]
    pub kind: Option<SipKind>,
    /// How many requests a second we take from each of these partners.
    #[serde(default)]
    pub messages_per_second: Option<NonZeroU32>,
    /// How many requests a second all of our edges together send to each of these partners; if absent,
    /// what goes with the mode.
    #[serde(default)]
    pub send_per_second: Option<SendRate>,
}

/// How fast a partner may be sent requests: `15`, or `"off"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SendRate {
    /// So many requests a second; more of them wait.
    PerSecond(NonZeroU32),
    /// As they come.
    Off,
}

/// How partners are found and trusted, in Microsoft's words (Access Edge: discovered partner,
/// allowed domain, allowed partner server, hosting provider).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum SipMode {
    /// Whoever DNS names, slowed down as a stranger: 20 requests a second to 1000 addresses, and
    /// one a second once most of them fail.
    Open,
    /// DNS finds them, and they are known to you: no such limits.
    #[default]
    Enhanced,
    /// `host` speaks for them, whatever DNS says.
    Direct,
    /// `host` speaks for every domain whose `_sipfederationtls._tcp` names it.
    Provider,
}

/// A rule by which a certificate proves a SIP domain.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum SipProof {
    /// It names the domain.
    Rfc5922,
    /// It names the host that the domain's SRV record names, directly in the domain.
    Microsoft,
}

/// What a partner runs: it decides between session mode and pager mode, and the form of typing
/// notices.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum SipKind {
    /// Lync, Skype for Business, Office 365: INVITE with `m=message`.
    Lync,
    /// SIP/SIMPLE: MESSAGE outside a dialog.
    Standard,
}

impl SipPartner {
    /// True if these partners are talked to, and sent no more than so much.
    pub fn has_pace(&self) -> bool {
        let rate = self.send_per_second.unwrap_or_else(|| self.mode.send_rate());
        self.action == Action::Allow && matches!(rate, SendRate::PerSecond(_))
    }
}

impl SipMode {
    /// What a Lync edge lets through from a partner that it discovered is 20 requests a second, and it
    /// punishes who is faster. So strangers get fewer, with two edges as well; who stands in the policy
    /// by an agreement has us on a list of its own, and no such limit.
    pub(crate) fn send_rate(self) -> SendRate {
        match self {
            Self::Open => SendRate::PerSecond(STRANGERS_GET),
            Self::Enhanced | Self::Direct | Self::Provider => SendRate::Off,
        }
    }
}

/// From all edges together.
const STRANGERS_GET: NonZeroU32 = match NonZeroU32::new(9) {
    Some(rate) => rate,
    None => NonZeroU32::MIN,
};

impl<'de> Deserialize<'de> for SendRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rate;
        impl Visitor<'_> for Rate {
            type Value = SendRate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 1, or \"off\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<SendRate, E> {
                let rate = u32::try_from(number).ok().and_then(NonZeroU32::new);
                let unexpected = de::Unexpected::Signed(number);
                rate.map(SendRate::PerSecond).ok_or_else(|| E::invalid_value(unexpected, &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SendRate, E> {
                let unexpected = de::Unexpected::Str(text);
                if text == "off" {
                    Ok(SendRate::Off)
                } else {
                    Err(E::invalid_value(unexpected, &self))
                }
            }
        }
        deserializer.deserialize_any(Rate)
    }
}

impl SipPartner {
    /// True if the row speaks of this pair of domains.
    pub(crate) fn speaks_of(&self, local: &Local<Domain>, remote: &Remote<Domain>) -> bool {
        self.local.as_ref().is_none_or(|ours| ours.contains(&local.0))
            && self.remote.iter().any(|one| one.matches(&remote.0))
    }

    pub(crate) fn scope(&self) -> Scope<'_> {
        Scope { local: self.local.as_deref(), remote: &self.remote }
    }
}
