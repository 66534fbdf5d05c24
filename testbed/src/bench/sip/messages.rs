//! Messages of one user to contacts at SIP partners, through the whole of core and edge: sessions of the
//! gateway, each message stored until its partner has answered.

use std::path::Path as Directory;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::subscriptions::ROUTES_WITHIN;
use super::whole::Whole;
use crate::bench::path::{Begin, Load, Sample};
use crate::failure::Failure;
use crate::stage::Paths;

const USER: &str = "romeo";
const BODY: &str = "Two households, both alike in dignity, in fair Verona, where we lay our scene.";
/// How long all of them may take.
const RUN_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at how many have come.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What each message costs both processes.
pub(crate) async fn measure(
    load: &Load,
    directory: &Directory,
    paths: &Paths,
) -> Result<Sample, Failure> {
    let mut world = Whole::start(&[USER.to_owned()], directory, paths)?;
    sleep(ROUTES_WITHIN).await;
    let late = |_| Failure::world(format!("the messages took over {RUN_WITHIN:?}"));
    timeout(RUN_WITHIN, Box::pin(run(&mut world, load))).await.map_err(late)?
}

async fn run(world: &mut Whole, load: &Load) -> Result<Sample, Failure> {
    let mut wire = world.clients.log_in(world.clients_at, USER, "bench").await?;
    // Opens a session with each contact.
    let contacts = world.partners.len() as u64;
    let mut sent = 0;
    let mut begin = None;
    while sent < load.messages + contacts {
        if begin.is_none() && sent >= contacts {
            arrive(world, sent, 0).await;
            begin = Some(Begin::at(world.usage()?));
        }
        let until = if begin.is_none() { contacts } else { load.messages + contacts };
        let mut text = String::new();
        for number in sent..until.min(sent + load.batch) {
            text += &format!(
                "<message to='bob@far{}.example' type='chat' id='m{number:08}'><body>{BODY}</body></message>",
                number % contacts
            );
        }
        sent = until.min(sent + load.batch);
        wire.say(&text).await?;
        arrive(world, sent, load.window).await;
    }
    arrive(world, sent, 0).await;
    let begin = begin.ok_or_else(|| Failure::world("nothing was sent"))?;
    let sample = begin.end_with(world.usage()?, load.messages);
    wire.close().await;
    Ok(sample)
}

/// Waits until no more than `under_way` of those that were sent have not come.
async fn arrive(world: &Whole, sent: u64, under_way: u64) {
    while (world.notified() as u64) + under_way < sent {
        sleep(LOOK_EVERY).await;
    }
}
