//! A core with the SIP gateway: a client on one side, an edge with a partner behind it on the other.

use std::sync::Arc;

use gatehouse_bridge::GatewayConfig;
use gatehouse_core::SipGatewayParts;
use gatehouse_policy::Policy;
use gatehouse_sip::{HeaderName, Message, Method, NameAddr, Status, Uri};
use gatehouse_trunk::sip::{SipEdgeEnd, in_process};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Client, Core, PATIENCE};

pub const PARTNER: &str = "[[sip]]\nname = 'partner'\nremote = ['partner.example']\n";
pub const BLOCKED: &str =
    "[[sip]]\nname = 'partner'\nremote = ['partner.example']\naction = 'block'\n";
pub const ANYBODY: &str = "[[rule]]\nname = 'xmpp'\nremote = ['*']\n\
    [[sip]]\nname = 'sip'\nremote = ['*']\n";
pub const SDP: &str = "v=0\r\no=- 0 0 IN IP4 198.51.100.57\r\ns=session\r\n\
    c=IN IP4 198.51.100.57\r\nt=0 0\r\nm=message 5060 sip null\r\n\
    a=accept-types:text/plain\r\n";
pub const CONTACT: &str = "<sip:romeo@partner.example;opaque=user:epid:x;gruu>";

/// A core, and the edge's end of its SIP trunk in the hands of the test.
pub struct World {
    pub core: Core,
    pub edge: SipEdgeEnd,
    pub policy: watch::Sender<Arc<Policy>>,
    pub requests: u32,
    /// Where the core runs, if it can be killed.
    pub runtime: Option<Apart>,
}

/// A runtime that may end while another one works.
pub struct Apart(Option<Runtime>);

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

pub fn policy(text: &str) -> Arc<Policy> {
    Arc::new(toml::from_str(text).unwrap())
}

impl World {
    pub async fn start(rules: &str) -> Self {
        Self::start_on(Core::new_files().await, rules).await
    }

    pub async fn start_on(files: TempDir, rules: &str) -> Self {
        Self::start_in(None, files, rules, |_| {}).await
    }

    /// In a runtime of its own, so that it can be killed.
    pub async fn start_apart(files: TempDir, change: impl FnOnce(&mut GatewayConfig)) -> Self {
        let apart = Apart(Some(Runtime::new().unwrap()));
        Self::start_in(Some(apart), files, PARTNER, change).await
    }

    async fn start_in(
        runtime: Option<Apart>,
        files: TempDir,
        rules: &str,
        change: impl FnOnce(&mut GatewayConfig),
    ) -> Self {
        let (trunk, edge) = in_process();
        let (policy, rules) = watch::channel(policy(rules));
        let mut config = GatewayConfig {
            contact: "core".to_owned(),
            public_host: "sip.ours.example".to_owned(),
            revive_within: std::time::Duration::from_millis(1),
            notify_delay: std::time::Duration::from_millis(1),
            ..GatewayConfig::default()
        };
        change(&mut config);
        let parts =
            SipGatewayParts { config, node: "core".to_owned(), policy: rules, trunk, inside: None };
        let start = Core::start_with(files, Some(parts));
        let core = match &runtime {
            Some(Apart(apart)) => apart.as_ref().unwrap().spawn(start).await.unwrap(),
            None => start.await,
        };
        Self { core, edge, policy, requests: 0, runtime }
    }

    /// Ends everything at once: no task gets another turn.
    pub async fn kill(self) -> TempDir {
        let runtime = self.runtime.unwrap().0.take().unwrap();
        let end = move || runtime.shutdown_timeout(PATIENCE);
        tokio::task::spawn_blocking(end).await.unwrap();
        self.core.files
    }

    /// Stops the core as a restart does.
    pub async fn stop(self) -> TempDir {
        self.core.tasks.shut_down(PATIENCE).await.unwrap();
        self.core.store.close().await;
        self.core.files
    }

    pub async fn alice(&self) -> Client {
        let mut alice = self.core.connect_direct().await.log_in("alice", "a").await;
        alice.send("<presence/>").await;
        alice.ping("ready").await;
        alice
    }

    /// What the core sends next to the partner.
    pub async fn heard(&mut self) -> Message {
        timeout(PATIENCE, self.edge.incoming.recv()).await.unwrap().unwrap().message
    }

    /// The next request of this kind; what else comes is let go by.
    pub async fn request(&mut self, method: Method) -> Message {
        loop {
            let heard = self.heard().await;
            if heard.status().is_none() && heard.method().as_ref() == Some(&method) {
                return heard;
            }
        }
    }

    /// The next final answer to a request of this kind.
    pub async fn answer_to(&mut self, method: Method) -> Message {
        loop {
            let heard = self.heard().await;
            let is_final = heard.status().is_some_and(Status::is_final);
            if is_final && heard.cseq().unwrap().method == method {
                return heard;
            }
        }
    }

    pub fn say(&self, message: Message) {
        self.edge.nodes.send("core", message).unwrap();
    }

    pub fn answer(&self, request: &Message, code: u16) {
        self.say(reply(request, code));
    }

    /// A request of Romeo's, outside any dialog.
    pub fn romeo_asks(&mut self, method: Method, to: &str) -> Message {
        self.requests += 1;
        let number = self.requests;
        let mut request =
            Message::request(method.clone(), Uri::parse(&format!("sip:{to}")).unwrap());
        let via = format!("SIP/2.0/TLS sip.partner.example;branch=z9hG4bK{number}");
        for (name, value) in [
            (HeaderName::Via, via),
            (HeaderName::MaxForwards, "70".to_owned()),
            (HeaderName::From, format!("<sip:romeo@partner.example>;tag=r{number}")),
            (HeaderName::To, format!("<sip:{to}>")),
            (HeaderName::CallId, format!("call-{number}")),
            (HeaderName::CSeq, format!("{number} {method}")),
            (HeaderName::Contact, CONTACT.to_owned()),
        ] {
            request.headers.push(name, value).unwrap();
        }
        request
    }

    /// A request of Romeo's in the dialog that `answer` of ours began.
    pub fn inside(&mut self, answer: &Message, method: Method) -> Message {
        let mut request = self.romeo_asks(method, "alice@ours.example");
        for name in [HeaderName::From, HeaderName::To, HeaderName::CallId] {
            let value = answer.headers.get(&name).unwrap().into_owned();
            request.headers.set(name, value).unwrap();
        }
        request
    }

    /// A request of Romeo's in the dialog that `request` of ours began.
    pub fn back(&mut self, request: &Message, method: Method) -> Message {
        let mut new = self.romeo_asks(method, "alice@ours.example");
        let ours = request.from().unwrap().to_string();
        let theirs = NameAddr::new(request.to().unwrap().uri).with_tag("partner").to_string();
        new.headers.set(HeaderName::To, ours).unwrap();
        new.headers.set(HeaderName::From, theirs).unwrap();
        let call = request.call_id().unwrap();
        new.headers.set(HeaderName::CallId, call).unwrap();
        new
    }

    pub fn text(&mut self, to: &str, text: &str) -> Message {
        let mut message = self.romeo_asks(Method::Message, to);
        message.set_body("text/plain", text.to_owned());
        message
    }

    pub fn subscribe(&mut self, to: &str, expires: &str) -> Message {
        let mut subscribe = self.romeo_asks(Method::Subscribe, to);
        subscribe.headers.push(HeaderName::Event, "presence").unwrap();
        subscribe.headers.push(HeaderName::Expires, expires).unwrap();
        subscribe
    }

    /// The next NOTIFY, answered: its state and its body.
    pub async fn notified(&mut self) -> (String, String) {
        let notify = self.request(Method::Notify).await;
        self.answer(&notify, 200);
        let state = notify.headers.get(&HeaderName::SubscriptionState).unwrap().into_owned();
        (state.split(';').next().unwrap().to_owned(), String::from_utf8_lossy(&notify.body).into())
    }

    /// Romeo watches Alice and is allowed to.
    pub async fn watched(&mut self, alice: &mut Client) {
        let subscribe = self.subscribe("alice@ours.example", "7200");
        self.say(subscribe);
        assert_eq!(self.answer_to(Method::Subscribe).await.status().unwrap().code(), 200);
        assert_eq!(self.notified().await.0, "pending");
        alice.expect("type='subscribe'").await;
        alice.send("<presence to='romeo@partner.example' type='subscribed'/>").await;
        while !self.notified().await.1.contains("open") {}
    }

    /// The session that Romeo began: the answer to his INVITE.
    pub async fn invited(&mut self) -> Message {
        let mut invite = self.romeo_asks(Method::Invite, "alice@ours.example");
        invite.set_body("application/sdp", SDP);
        self.say(invite);
        let answer = self.answer_to(Method::Invite).await;
        assert_eq!(answer.status().unwrap().code(), 200);
        answer
    }
}

pub fn reply(request: &Message, code: u16) -> Message {
    let mut response = Message::response_to(request, Status::of(code), Some("partner"));
    if (200..300).contains(&code) {
        response.headers.push(HeaderName::Contact, CONTACT).unwrap();
        if request.method() == Some(Method::Invite) {
            response.set_body("application/sdp", SDP);
        }
    }
    response
}

pub fn code(message: &Message) -> u16 {
    message.status().unwrap().code()
}
