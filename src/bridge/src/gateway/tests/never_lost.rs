//! For any interleaving of messages, answers, failures and farewells: each message ends once, and
//! order is kept.

use proptest::prelude::*;

use super::*;
use crate::effect::Failure;

#[derive(Clone, Copy, Debug)]
enum Step {
    Say,
    Answer { which: usize, code: u16 },
    Fail { which: usize, timed_out: bool },
    RemoteInvites,
    RemoteBye { which: usize },
    Wait { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let code = prop::sample::select(vec![101u16, 200, 200, 200, 403, 408, 480, 481, 486, 488, 500]);
    prop_oneof![
        4 => Just(Step::Say),
        6 => (0usize..4, code).prop_map(|(which, code)| Step::Answer { which, code }),
        1 => (0usize..4, any::<bool>()).prop_map(|(which, timed_out)| Step::Fail { which, timed_out }),
        1 => Just(Step::RemoteInvites),
        1 => (0usize..4).prop_map(|which| Step::RemoteBye { which }),
        1 => (1u64..700).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// Everything that happened, and what waits for the partner.
#[derive(Default)]
struct Book {
    open: Vec<(OutgoingId, Message)>,
    dialogs: Vec<Message>,
    /// With true if its author was told that it arrived.
    ended: Vec<(u64, bool)>,
    accepted: Vec<String>,
}

impl Book {
    fn write(&mut self, world: &World) {
        for effect in &world.effects {
            match effect {
                Effect::Request { id, request } => self.open.push((*id, request.clone())),
                Effect::Respond { response, .. } if response.method() == Some(Method::Invite) => {
                    self.dialogs.push(response.clone());
                }
                Effect::Release { receipt } => self.ended.push((receipt.0, true)),
                Effect::Bounce { receipt, .. } => self.ended.push((receipt.0, false)),
                _ => {}
            }
        }
    }
}

fn run(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut world = World::new();
    let (mut book, mut said, mut calls) = (Book::default(), 0u64, 0u32);
    for step in steps {
        take(&mut world, &mut book, *step, (&mut said, &mut calls));
    }
    // From here on the partner says yes to everything.
    for _ in 0..1000 {
        if book.open.is_empty() {
            break;
        }
        take(&mut world, &mut book, Step::Answer { which: 0, code: 200 }, (&mut said, &mut calls));
    }
    world.pass(Duration::from_secs(3600));
    book.write(&world);
    let mut ends: Vec<u64> = book.ended.iter().map(|(receipt, _)| *receipt).collect();
    prop_assert_eq!(&ends, &(1..=said).collect::<Vec<_>>(), "each once, in order");
    ends.clear();
    let in_order: Vec<u64> = book.accepted.iter().map(|text| text.parse().unwrap()).collect();
    prop_assert!(in_order.is_sorted(), "{:?}", in_order);
    // What the author was told is true: accepted means accepted.
    for (receipt, outcome) in &book.ended {
        if *outcome {
            prop_assert!(in_order.contains(receipt), "{} was not accepted", receipt);
        }
    }
    prop_assert_eq!(world.gateway.status().queued, 0);
    Ok(())
}

fn take(world: &mut World, book: &mut Book, step: Step, (said, calls): (&mut u64, &mut u32)) {
    match step {
        Step::Say => {
            *said += 1;
            world.say(&said.to_string(), *said);
        }
        Step::Answer { which, code } => {
            let Some(at) = (!book.open.is_empty()).then(|| which % book.open.len()) else { return };
            let to = book.open.remove(at);
            if code < 200 {
                book.open.push(to.clone());
            }
            if code == 200 && to.1.method() == Some(Method::Message) {
                book.accepted.push(String::from_utf8(to.1.body.to_vec()).unwrap());
            }
            if code == 200 && to.1.method() == Some(Method::Invite) {
                let mut ours = to.1.clone();
                let from = to.1.headers.get(&HeaderName::From).unwrap().into_owned();
                let tagged = format!("{};tag=partner", to.1.headers.get(&HeaderName::To).unwrap());
                ours.headers.set(HeaderName::To, from).unwrap();
                ours.headers.set(HeaderName::From, tagged).unwrap();
                book.dialogs.push(ours);
            }
            let response = reply(&to.1, code);
            world.answer(&to, response);
        }
        Step::Fail { which, timed_out } => {
            let Some(at) = (!book.open.is_empty()).then(|| which % book.open.len()) else { return };
            let (id, _) = book.open.remove(at);
            let failure = if timed_out { Failure::TimedOut } else { Failure::Unreachable };
            world.gateway.handle_failure(id, failure, world.now);
            world.did();
        }
        Step::RemoteInvites => {
            *calls += 1;
            world.request(invitation(&format!("{calls}-call")));
        }
        Step::RemoteBye { which } => {
            let Some(at) = (!book.dialogs.is_empty()).then(|| which % book.dialogs.len()) else {
                return;
            };
            let dialog = book.dialogs.remove(at);
            world.request(inside(&dialog, "BYE", 1000));
        }
        Step::Wait { seconds } => {
            world.pass(Duration::from_secs(seconds));
        }
    }
    book.write(world);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_lost_and_order_is_kept(steps in prop::collection::vec(step(), 0..60)) {
        run(&steps)?;
    }
}
