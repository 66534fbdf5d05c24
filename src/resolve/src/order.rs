use gatehouse_types::Domain;

use crate::Transport;

/// One SRV record (RFC 2782) with a target that can be dialled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Service {
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    pub(crate) port: u16,
    pub(crate) host: Domain,
    pub(crate) transport: Transport,
}

/// Brings `services` into the order in which to try them: lower priority first; within one
/// priority drawn at random, each with the chance that its weight gives it (RFC 2782, "Usage
/// rules").
///
/// Records of both sets are in one list: XEP-0368 asks to treat them as if they were one.
/// `pick(max)` draws from `0..=max`.
pub(crate) fn in_order(
    mut services: Vec<Service>,
    pick: &mut (dyn FnMut(u32) -> u32 + Send),
) -> Vec<Service> {
    // Within a priority those with weight 0 stand first, so that they have a small chance.
    services.sort_by_key(|service| (service.priority, service.weight != 0));
    let mut ordered = Vec::with_capacity(services.len());
    while let Some(priority) = services.first().map(|service| service.priority) {
        let group = services.iter().take_while(|service| service.priority == priority);
        let sum = group.map(|service| u32::from(service.weight)).sum::<u32>();
        let mut rest = pick(sum).min(sum);
        let chosen = services
            .iter()
            .position(|service| {
                let weight = u32::from(service.weight);
                let reached = weight >= rest;
                rest = rest.saturating_sub(weight);
                reached
            })
            .unwrap_or_default();
        ordered.push(services.remove(chosen));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(priority: u16, weight: u16, host: &str) -> Service {
        Service {
            priority,
            weight,
            port: 5269,
            host: host.parse().unwrap(),
            transport: Transport::StartTls,
        }
    }

    fn names(services: &[Service]) -> String {
        services.iter().map(|service| service.host.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn lower_priority_goes_first_whatever_its_weight() {
        let services = vec![service(20, 1000, "b"), service(30, 0, "c"), service(10, 0, "a")];
        assert_eq!(names(&in_order(services, &mut |max| max)), "a b c");
    }

    #[test]
    fn the_draw_falls_on_running_sums() {
        // 0: z, 1..=10: a, 11..=40: b, then the same among those that are left.
        for (draw, want) in [(0, "z"), (1, "a"), (10, "a"), (11, "b"), (40, "b"), (99, "b")] {
            let services = vec![service(1, 10, "a"), service(1, 30, "b"), service(1, 0, "z")];
            let mut asked = Vec::new();
            let ordered = in_order(services, &mut |max| {
                asked.push(max);
                if asked.len() == 1 { draw } else { 0 }
            });
            assert_eq!(ordered[0].host.as_str(), want, "draw {draw}");
            assert_eq!((ordered.len(), asked[0]), (3, 40));
        }
    }

    #[test]
    fn weights_are_chances() {
        // Every number once: heavy must lead 90 times in 101, light 11 times (0 included).
        let leads = (0..=100)
            .map(|draw| {
                let services = vec![service(1, 10, "light"), service(1, 90, "heavy")];
                in_order(services, &mut |_| draw).remove(0)
            })
            .filter(|first| first.host.as_str() == "heavy")
            .count();
        assert_eq!(leads, 90);
    }

    #[test]
    fn nothing_gives_nothing() {
        assert!(in_order(Vec::new(), &mut |max| max).is_empty());
    }
}
