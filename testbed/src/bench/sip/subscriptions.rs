//! Many partners' users watch ours: the whole of edge and core, with accounts, rosters, the stored
//! subscriptions, and every NOTIFY out and answered.

use std::path::Path as Directory;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::whole::Whole;
use crate::bench::path::{Begin, Sample, ratio};
use crate::bench::subject::NEAR;
use crate::failure::Failure;
use crate::nodes::partner::{Outcome, Partner as SipPartner};
use crate::stage::Paths;

/// So many may watch one account.
const WATCHERS_EACH: usize = 200;
/// After this an edge sends new SIP sessions to a core that has just come.
pub(crate) const ROUTES_WITHIN: Duration = Duration::from_millis(2500);
/// How long everything after the last answer may take.
const QUIET_WITHIN: Duration = Duration::from_secs(30);
/// Nothing more comes when nothing has come for so long.
const QUIET: Duration = Duration::from_secs(1);
/// How long one account's watchers may take.
const ACCOUNT_WITHIN: Duration = Duration::from_secs(60);

/// Subscriptions of partners, until so many are active; then what that takes. `told` hears of both
/// processes.
pub(crate) async fn measure(
    count: usize,
    directory: &Directory,
    paths: &Paths,
    mut told: impl FnMut(&str),
) -> Result<Sample, Failure> {
    let users: Vec<_> = (0..count.div_ceil(WATCHERS_EACH)).map(user).collect();
    let mut world = Whole::start(&users, directory, paths)?;
    sleep(ROUTES_WITHIN).await;
    let before = world.memory()?;
    let begin = Begin::at(world.usage()?);
    for account in 0..count.div_ceil(WATCHERS_EACH) {
        let watchers = WATCHERS_EACH.min(count - account * WATCHERS_EACH);
        let late = |_| Failure::world(format!("account {account} took over {ACCOUNT_WITHIN:?}"));
        timeout(ACCOUNT_WITHIN, Box::pin(fill(&world, account, watchers)))
            .await
            .map_err(late)??;
    }
    quiet(&world).await?;
    let mut sample = begin.end_with(world.usage()?, count.try_into().unwrap_or(u64::MAX));
    let after = world.memory()?;
    for (name, before, after) in [("core", before.0, after.0), ("edge", before.1, after.1)] {
        told(&format!(
            "{count} active subscriptions, {} NOTIFYs answered: {name} RSS {} KiB before, {} KiB after; PSS \
             {} KiB before, {} KiB after",
            world.notified(),
            before.resident,
            after.resident,
            before.proportional,
            after.proportional
        ));
    }
    let active: usize = world.partners.iter().map(SipPartner::active).sum();
    if active != count {
        return Err(Failure::world(format!("{active} of {count} subscriptions are active")));
    }
    sample.resident = after.0.resident;
    let grown = after.0.proportional.saturating_sub(before.0.proportional);
    sample.each = Some(ratio(grown, count.try_into().unwrap_or(u64::MAX)));
    Ok(sample)
}

/// One account is watched by so many, and lets them all watch; then its user leaves.
async fn fill(world: &Whole, account: usize, watchers: usize) -> Result<(), Failure> {
    let user = user(account);
    let mut wire = world.clients.log_in(world.clients_at, &user, "bench").await?;
    world.clients.appear(&mut wire).await?;
    let mut asked = Vec::new();
    for number in 0..watchers {
        let partner = world.partners.get(number % world.partners.len());
        let partner = partner.ok_or_else(|| Failure::world("there are partners"))?.clone();
        let (from, whom) = (watcher(number), user.clone());
        let handle = partner.handle().clone();
        asked.push(handle.spawn(async move { partner.watch(0, &from, &whom).await }));
    }
    for asked in asked {
        match asked.await {
            Ok(Outcome::Answered(200, _)) => {}
            other => {
                return Err(Failure::world(format!("a SUBSCRIBE came to {other:?}")));
            }
        }
    }
    let mut yes = String::new();
    for number in 0..watchers {
        let words = ["type='subscribe'", "type=\"subscribe\""];
        wire.hear_within(&words, ACCOUNT_WITHIN).await?;
        let domain = number % world.partners.len();
        yes +=
            &format!("<presence type='subscribed' to='{}@far{domain}.example'/>", watcher(number));
    }
    // All of it was taken when the ping is answered.
    yes += &format!("<iq type='get' id='taken' to='{NEAR}'><ping xmlns='urn:xmpp:ping'/></iq>");
    wire.say(&yes).await?;
    wire.hear_within(&["'taken'", "\"taken\""], ACCOUNT_WITHIN).await?;
    wire.close().await;
    Ok(())
}

/// Waits until nobody is told anything more.
async fn quiet(world: &Whole) -> Result<(), Failure> {
    let waiting = async {
        let mut last = usize::MAX;
        while last != world.notified() {
            last = world.notified();
            sleep(QUIET).await;
        }
    };
    let late = |_| Failure::world(format!("no quiet within {QUIET_WITHIN:?}"));
    timeout(QUIET_WITHIN, waiting).await.map_err(late)
}

fn user(account: usize) -> String {
    format!("user{account}")
}

fn watcher(number: usize) -> String {
    format!("watcher{number}")
}
