use gatehouse_sip::{Host, NameAddr, Params, Scheme, Uri, Via};
use gatehouse_types::{Domain, Local};

/// Where SIP partners find us, and the only names and numbers of ours they ever see.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Face {
    /// Directly in the IM domain, as Microsoft's rule asks: `sip.ours.example`.
    host: Domain,
    port: u16,
}

impl Face {
    /// The face of one IM domain; `label` is the host's own label, such as `sip`.
    pub(crate) fn of(local: &Local<Domain>, label: &str, port: u16) -> Option<Self> {
        format!("{label}.{}", local.0).parse().ok().map(|host| Self { host, port })
    }

    pub(crate) fn host(&self) -> &Domain {
        &self.host
    }

    /// Our Via towards a partner.
    pub(crate) fn via(&self, branch: &str) -> Via {
        let mut params = Params::default();
        params.set("branch", Some(branch));
        Via {
            transport: "TLS".to_owned(),
            host: Host::Name(self.host.to_string()),
            port: Some(self.port),
            params,
        }
    }

    /// Our Contact towards a partner: whatever it says to it comes back with the token.
    pub(crate) fn contact(&self, token: &str) -> NameAddr {
        let mut params = Params::default();
        params.set("transport", Some("tls"));
        NameAddr::new(Uri {
            scheme: Scheme::Sip,
            user: Some(token.to_owned()),
            host: Host::Name(self.host.to_string()),
            port: Some(self.port),
            params,
            headers: None,
        })
    }

    /// True if a URI points at us.
    pub(crate) fn is_at(&self, uri: &Uri) -> bool {
        matches!(&uri.host, Host::Name(name) if name.eq_ignore_ascii_case(self.host.as_str()))
    }
}
