//! Messages of one user to contacts at SIP partners, through the whole of core and edge: sessions of the
//! gateway, each message stored until its partner has answered.

use std::path::Path as Directory;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::subscriptions::ROUTES_WITHIN;
use super::whole::Whole;
use crate::bench::path::{Begin, Load, Sample};
use crate::bench::wire::Wire;
use crate::failure::Failure;
use crate::stage::Paths;

const USER: &str = "romeo";
const BODY: &str = "Two households, both alike in dignity, in fair Verona, where we lay our scene.";
/// How long all of them may take.
const RUN_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at how many have come.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What each message costs both processes, as often as wanted in one world; `told` hears of each run.
pub(crate) async fn measure(
    load: &Load,
    runs: u32,
    directory: &Directory,
    paths: &Paths,
    mut told: impl FnMut(u32),
) -> Result<Vec<Sample>, Failure> {
    let mut world = Whole::start(&[USER.to_owned()], directory, paths)?;
    sleep(ROUTES_WITHIN).await;
    let mut wire = world.clients.log_in(world.clients_at, USER, "bench").await?;
    let late = |_| Failure::world(format!("the messages took over {RUN_WITHIN:?}"));
    // The first of all open a session with each contact.
    let (mut sent, mut samples) = (0, Vec::new());
    let contacts = world.partners.len() as u64;
    timeout(RUN_WITHIN, Box::pin(send(&world, &mut wire, load, &mut sent, contacts)))
        .await
        .map_err(late)??;
    for run in 1..=runs {
        told(run);
        let begin = Begin::at(world.usage()?);
        timeout(RUN_WITHIN, Box::pin(send(&world, &mut wire, load, &mut sent, load.messages)))
            .await
            .map_err(late)??;
        samples.push(begin.end_with(world.usage()?, load.messages));
    }
    wire.close().await;
    Ok(samples)
}

/// Sends so many more, in turn to each contact, and waits until all have come.
async fn send(
    world: &Whole,
    wire: &mut Wire,
    load: &Load,
    sent: &mut u64,
    count: u64,
) -> Result<(), Failure> {
    let contacts = world.partners.len() as u64;
    let end = *sent + count;
    while *sent < end {
        let until = end.min(*sent + load.batch);
        let mut text = String::new();
        for number in *sent..until {
            text += &format!(
                "<message to='bob@far{}.example' type='chat' id='m{number:08}'><body>{BODY}</body></message>",
                number % contacts
            );
        }
        *sent = until;
        wire.say(&text).await?;
        arrive(world, *sent, load.window).await;
    }
    arrive(world, *sent, 0).await;
    Ok(())
}

/// Waits until no more than `under_way` of those that were sent have not come.
async fn arrive(world: &Whole, sent: u64, under_way: u64) {
    while (world.notified() as u64) + under_way < sent {
        sleep(LOOK_EVERY).await;
    }
}
