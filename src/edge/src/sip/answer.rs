//! What the edge itself says, where it does not pass a message on.

use gatehouse_sip::{HeaderName, Message, Method, Status};

/// Why a partner's request goes no further, in words that it may know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Refused {
    pub(crate) status: Status,
    /// Microsoft's number for it (MS-OCER), and a sentence for their helpdesk.
    pub(crate) diagnostics: Option<(u16, &'static str)>,
    pub(crate) retry_after_s: Option<u32>,
    /// What the status must come with: Allow (405), Unsupported (420).
    pub(crate) with: Option<Box<(HeaderName, String)>>,
    /// A label for metrics: one of a closed set.
    pub(crate) label: &'static str,
    /// For our log only.
    pub(crate) reason: String,
}

impl Refused {
    pub(crate) fn new(code: u16, label: &'static str, reason: impl Into<String>) -> Self {
        Self {
            // Every caller writes a code of RFC 3261.
            status: Status::new(code).unwrap_or(Status::of(500)),
            diagnostics: None,
            retry_after_s: None,
            with: None,
            label,
            reason: reason.into(),
        }
    }

    pub(crate) fn told(self, id: u16, sentence: &'static str) -> Self {
        Self { diagnostics: Some((id, sentence)), ..self }
    }

    pub(crate) fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    pub(crate) fn with(self, name: HeaderName, value: impl Into<String>) -> Self {
        Self { with: Some(Box::new((name, value.into()))), ..self }
    }

    /// The answer; `None` for what is never answered (RFC 3261 section 17.1.1.3, MS-SIP 4.4) and
    /// for what does not say where the answer goes.
    pub(crate) fn answer(&self, request: &Message, tag: &str) -> Option<Message> {
        if matches!(request.method()?, Method::Ack | Method::Benotify) {
            return None;
        }
        if !request.vias().is_ok_and(|vias| !vias.is_empty()) {
            return None;
        }
        let mut answer = Message::response_to(request, self.status, Some(tag));
        let mut push = |name, value: String| {
            // Both are numbers and sentences of ours.
            let _ = answer.headers.push(name, value);
        };
        if let Some((id, sentence)) = self.diagnostics {
            push(HeaderName::MsDiagnosticsPublic, format!("{id};reason=\"{sentence}\""));
        }
        if let Some(seconds) = self.retry_after_s {
            push(HeaderName::RetryAfter, seconds.to_string());
        }
        if let Some(with) = &self.with {
            let (name, value) = with.as_ref();
            push(name.clone(), value.clone());
        }
        Some(answer)
    }
}
