//! What an administrator and the owner decide.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use gatehouse_types::Domain;

use crate::availability::BusyAs;
use crate::profile::Profile;

/// Settings of one gateway.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The host in Contact of what we send, with its port if it has one: where the inside reaches
    /// this node. The edge replaces it by a token.
    pub contact: String,
    /// The host that session descriptions name: the public name of the edge, never an inside one.
    pub public_host: String,
    /// What each partner is, where the administrator says so.
    pub profiles: HashMap<Domain, Profile>,
    /// Partners that the policy names. A part of what there is is kept for them: the others may be many.
    pub named: HashSet<Domain>,
    /// What a partner is taken for while nothing is known of it.
    pub default_profile: Profile,
    /// How a busy Lync user looks to XMPP clients.
    pub busy_as: BusyAs,
    /// What an author reads first when a message could not be delivered.
    pub undelivered: String,
    /// Silence after which a session is ended with BYE.
    pub session_idle: Duration,
    /// How long after it came a user's message may still be sent to a partner; then it is bounced.
    pub deliver_within: Duration,
    /// How long an INVITE may ring.
    pub invite_timeout: Duration,
    /// What our SUBSCRIBE asks for, in seconds.
    pub subscribe_expires: u32,
    /// Longest time granted to a watcher, in seconds.
    pub watched_expires_max: u32,
    /// Shortest time granted to a watcher, in seconds; less is answered 423.
    pub watched_expires_min: u32,
    /// How long changes of presence are gathered before a NOTIFY.
    pub notify_delay: Duration,
    /// After a restart, subscriptions are renewed within this time.
    pub revive_within: Duration,
    /// Bounds.
    pub limits: Limits,
}

/// What all partners together, one partner and one user may cost us.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How much of each total one partner's domain may use, in percent.
    pub partner_share_percent: usize,
    /// IM sessions in total.
    pub sessions_max: usize,
    /// IM sessions of one local user.
    pub sessions_per_user_max: usize,
    /// Subscriptions in total, both directions together.
    pub subscriptions_max: usize,
    /// Subscriptions to or of one local user.
    pub subscriptions_per_user_max: usize,
    /// Subscriptions to or of one remote user, with all local users together.
    pub subscriptions_per_contact_max: usize,
    /// Subscriptions of one remote user to one local user: its devices.
    pub subscriptions_per_pair_max: usize,
    /// Messages that wait for one remote user, per local user.
    pub queue_len_max: usize,
    /// Bytes of messages of one local user that have no answer.
    pub queued_bytes_per_user_max: usize,
    /// The same of all local users.
    pub queued_bytes_max: usize,
    /// Longest text of a message, in bytes, either way.
    pub text_bytes_max: usize,
    /// Messages from partners that the local router has not taken yet.
    pub undelivered_max: usize,
    /// Single looks at a contact's presence that are under way.
    pub fetches_max: usize,
    /// Devices of one user whose presence is kept, either way.
    pub resources_max: usize,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            contact: "gateway.invalid".to_owned(),
            public_host: "gateway.invalid".to_owned(),
            profiles: HashMap::new(),
            named: HashSet::new(),
            default_profile: Profile::Lync,
            busy_as: BusyAs::default(),
            undelivered: "Your IM could not be delivered.".to_owned(),
            session_idle: Duration::from_secs(600),
            deliver_within: Duration::from_secs(600),
            invite_timeout: Duration::from_secs(60),
            subscribe_expires: 3600,
            watched_expires_max: 7500,
            watched_expires_min: 60,
            notify_delay: Duration::from_millis(200),
            revive_within: Duration::from_secs(45),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            partner_share_percent: 25,
            sessions_max: 10_000,
            sessions_per_user_max: 200,
            subscriptions_max: 20_000,
            subscriptions_per_user_max: 1_000,
            subscriptions_per_contact_max: 1_000,
            subscriptions_per_pair_max: 8,
            queue_len_max: 64,
            queued_bytes_per_user_max: 16 << 20,
            queued_bytes_max: 256 << 20,
            text_bytes_max: 32 * 1024,
            undelivered_max: 4_096,
            fetches_max: 1_000,
            resources_max: 16,
        }
    }
}
