use std::time::Duration;

use proptest::prelude::*;

use super::world::World;

#[derive(Clone, Copy, Debug)]
enum Act {
    SendFromCore,
    SendFromEdge,
    CarryToEdge(usize),
    CarryToCore(usize),
    FinishAtCore(usize),
    FinishAtEdge(usize),
    Wait(u16),
    Cut,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::SendFromCore),
        4 => Just(Act::SendFromEdge),
        6 => (1_usize..400).prop_map(Act::CarryToEdge),
        6 => (1_usize..400).prop_map(Act::CarryToCore),
        2 => Just(Act::CarryToEdge(usize::MAX)),
        2 => Just(Act::CarryToCore(usize::MAX)),
        4 => any::<usize>().prop_map(Act::FinishAtCore),
        4 => any::<usize>().prop_map(Act::FinishAtEdge),
        2 => (1_u16..500).prop_map(Act::Wait),
        1 => Just(Act::Cut),
    ]
}

fn play(world: &mut World, act: Act) {
    match act {
        Act::SendFromCore => world.core.submit(),
        Act::SendFromEdge => world.edge.submit(),
        Act::CarryToEdge(bytes) => {
            world.carry_to_edge(bytes);
        }
        Act::CarryToCore(bytes) => {
            world.carry_to_core(bytes);
        }
        Act::FinishAtCore(which) => world.finish_at_core(which),
        Act::FinishAtEdge(which) => world.finish_at_edge(which),
        Act::Wait(milliseconds) => world.pass(Duration::from_millis(milliseconds.into())),
        Act::Cut => world.cut(),
    }
    world.settle();
}

fn numbers(len: usize) -> Vec<usize> {
    (0..len).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever is cut and whenever, each stanza arrives once and in order, as long as both ends
    /// keep their memory.
    #[test]
    fn each_once_and_in_order(acts in prop::collection::vec(act(), 0..200)) {
        let mut world = World::new();
        world.settle();
        for act in acts {
            play(&mut world, act);
        }
        world.run_out();
        prop_assert_eq!(&world.edge.got, &numbers(world.core.sent));
        prop_assert_eq!(&world.core.got, &numbers(world.edge.sent));
        prop_assert_eq!(world.core.acknowledged, world.core.sent);
        prop_assert_eq!(world.edge.acknowledged, world.edge.sent);
    }

    /// An edge that loses its memory loses nothing of the core's: what it had not finished comes
    /// again, before anything newer.
    #[test]
    fn a_restarted_edge_gets_everything_again(
        acts in prop::collection::vec((act(), 0_u8..12), 0..200),
    ) {
        let mut world = World::new();
        world.settle();
        for (act, restart) in acts {
            match act {
                // What the edge sent may die with it; that is not what is tested here.
                Act::SendFromEdge => {}
                act => play(&mut world, act),
            }
            if restart == 0 {
                world.restart_edge();
            }
        }
        world.run_out();
        let mut safe = world.edge.safe.clone();
        safe.sort_unstable();
        safe.dedup();
        prop_assert_eq!(safe, numbers(world.core.sent));
        let mut firsts: Vec<usize> = Vec::new();
        for id in &world.edge.got {
            if !firsts.contains(id) {
                firsts.push(*id);
            }
        }
        prop_assert_eq!(firsts, numbers(world.core.sent));
        prop_assert_eq!(world.core.acknowledged, world.core.sent);
    }
}

/// The same conversation, cut after every single byte of the core's, then of the edge's.
#[test]
fn a_cut_after_any_byte() {
    for to_edge in [true, false] {
        let mut resumed = 0;
        for cut_after in 0.. {
            let mut world = World::new();
            for _ in 0..3 {
                world.core.submit();
                world.edge.submit();
            }
            world.settle();
            let mut left: usize = cut_after;
            for _ in 0..8 {
                let (core, edge) = if to_edge { (usize::MAX, left) } else { (left, usize::MAX) };
                let (at_edge, at_core) = (world.carry_to_edge(edge), world.carry_to_core(core));
                left -= if to_edge { at_edge } else { at_core };
                world.finish_at_edge(1);
                world.finish_at_core(1);
            }
            world.cut();
            world.run_out();
            assert_eq!(world.edge.got, numbers(3), "{to_edge} {cut_after}");
            assert_eq!(world.core.got, numbers(3), "{to_edge} {cut_after}");
            resumed += world.core.resumed;
            if left > 0 {
                break; // The cut came after the last byte.
            }
        }
        assert!(resumed > 100, "{resumed}");
    }
}
