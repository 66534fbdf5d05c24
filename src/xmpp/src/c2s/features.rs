use std::time::Duration;

use minidom::{Element, ElementBuilder};
use rxml::xml_ncname;

use crate::ns;
use crate::sasl::{Mechanism, TokenMechanism};

/// What a stream takes (XEP-0478).
#[derive(Clone, Copy)]
pub(super) struct Advertised {
    pub(super) bytes_max: usize,
    /// Silence after which we ask.
    pub(super) idle: Option<Duration>,
}

impl Advertised {
    fn to_element(self) -> Element {
        let bytes = Element::builder("max-bytes", ns::STREAM_LIMITS);
        let idle = self.idle.map(|idle| {
            Element::builder("idle-seconds", ns::STREAM_LIMITS).append(idle.as_secs().to_string())
        });
        Element::builder("limits", ns::STREAM_LIMITS)
            .append(bytes.append(self.bytes_max.to_string()).build())
            .append_all(idle.map(ElementBuilder::build))
            .build()
    }
}

/// What a client may do next.
pub(super) enum Offer<'a> {
    /// Encrypt. There is nothing else before.
    StartTls,
    /// Authenticate, over TLS with this keying material.
    Login { exporter: Option<&'a [u8; 32]> },
    /// Bind a resource.
    Session,
    /// A resource is bound; the stream is `managed` or not.
    Open { managed: bool },
}

/// The one place where a client's stream features are made.
pub(super) fn features(offer: &Offer<'_>, limits: Advertised) -> Element {
    let features = Element::builder("features", ns::STREAM);
    match offer {
        Offer::StartTls => {
            let required = Element::bare("required", ns::TLS);
            let starttls = Element::builder("starttls", ns::TLS).append(required);
            features.append(starttls.build()).build()
        }
        Offer::Login { exporter } => {
            let names = Mechanism::offered(*exporter).map(|mechanism| {
                Element::builder("mechanism", ns::SASL).append(mechanism.name()).build()
            });
            let mechanisms = Element::builder("mechanisms", ns::SASL).append_all(names);
            let binding = exporter.map(|_| channel_binding());
            features
                .append(mechanisms.build())
                .append(extended(*exporter))
                .append_all(binding)
                .append(limits.to_element())
                .build()
        }
        Offer::Session => {
            let optional = Element::bare("optional", ns::SESSION);
            let session = Element::builder("session", ns::SESSION).append(optional);
            let bind = [Element::bare("bind", ns::BIND), session.build()];
            in_session(features.append_all(bind), true, limits)
        }
        Offer::Open { managed } => in_session(features, !managed, limits),
    }
}

/// What a client may do beside stanzas once it is bound.
fn in_session(features: ElementBuilder, sm: bool, limits: Advertised) -> Element {
    features
        .append(Element::bare("ver", ns::ROSTER_VERSIONING))
        .append(Element::bare("sub", ns::PRE_APPROVAL))
        .append_all(sm.then(|| Element::bare("sm", ns::SM)))
        .append(Element::bare("csi", ns::CSI))
        .append(limits.to_element())
        .build()
}

/// Extended SASL (XEP-0388), and what may be wished for with it.
fn extended(exporter: Option<&[u8; 32]>) -> Element {
    let mechanisms = Mechanism::offered(exporter)
        .map(|mechanism| Element::builder("mechanism", ns::SASL2).append(mechanism.name()).build());
    let features = [ns::SM, ns::CARBONS, ns::CSI].map(|feature| {
        let name = xml_ncname!("var").to_owned();
        Element::builder("feature", ns::BIND2).attr(name, feature).build()
    });
    let within = Element::builder("inline", ns::BIND2).append_all(features).build();
    let tokens = TokenMechanism::offered(exporter)
        .map(|mechanism| Element::builder("mechanism", ns::FAST).append(mechanism.name()).build());
    let inline = Element::builder("inline", ns::SASL2)
        .append(Element::builder("bind", ns::BIND2).append(within).build())
        .append(Element::bare("sm", ns::SM))
        .append(Element::builder("fast", ns::FAST).append_all(tokens).build());
    Element::builder("authentication", ns::SASL2)
        .append_all(mechanisms)
        .append(inline.build())
        .build()
}

/// XEP-0440, section 3.
fn channel_binding() -> Element {
    let kind = Element::builder("channel-binding", ns::SASL_CHANNEL_BINDING)
        .attr(xml_ncname!("type").to_owned(), "tls-exporter")
        .build();
    Element::builder("sasl-channel-binding", ns::SASL_CHANNEL_BINDING).append(kind).build()
}
