use gatehouse_identity::CertificateNames;

use super::*;
use crate::NameKind;

#[test]
fn a_domain_has_six_names_each_with_its_reason() {
    let text = plan("ours.example").to_string();
    let names: Vec<String> = text
        .lines()
        .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        names,
        [
            "dNSName ours.example",
            "dNSName conference.ours.example",
            "dNSName sip.ours.example",
            "dNSName edge.example",
            "SRVName _xmpp-server.ours.example",
            "SRVName _xmpp-client.ours.example",
        ]
    );
    assert!(text.lines().all(|line| line.split_whitespace().count() > 2), "{text}");
}

#[test]
fn xmpp_addr_is_there_only_if_asked_for() {
    let with = PlanOptions { xmpp_addr: true };
    let asked = NamePlan::for_domain(&domain("ours.example"), &domain("edge.example"), with);
    let kinds = |plan: &NamePlan| plan.names().iter().map(|name| name.kind).collect::<Vec<_>>();
    assert!(kinds(&asked).contains(&NameKind::XmppAddr));
    assert!(!kinds(&plan("ours.example")).contains(&NameKind::XmppAddr));
}

#[test]
fn an_edge_host_that_is_the_domain_is_named_once() {
    let ours = domain("ours.example");
    let plan = NamePlan::for_domain(&ours, &ours, PlanOptions::default());
    assert_eq!(plan.names().len(), 5);
}

#[test]
fn what_a_certificate_lacks_is_told() {
    let names = CertificateNames {
        dns: vec!["ours.example".to_owned(), "edge.example".to_owned()],
        srv: vec!["_xmpp-server.ours.example".to_owned()],
        ..CertificateNames::default()
    };
    let missing: Vec<_> =
        plan("ours.example").missing_in(&names).iter().map(|name| name.value.clone()).collect();
    assert_eq!(
        missing,
        ["conference.ours.example", "sip.ours.example", "_xmpp-client.ours.example"]
    );
}

#[test]
fn the_host_of_sip_stands_in_the_plan_once() {
    let plan =
        || NamePlan::for_domain(&domain("ours.example"), &domain("e.example"), <_>::default());
    let names = |plan: &NamePlan| {
        let names = plan.names().iter().filter(|name| name.kind == NameKind::Dns);
        names.map(|name| name.value.clone()).collect::<Vec<_>>()
    };
    let as_ever = plan().with_sip_host(&domain("sip.ours.example"));
    assert_eq!(as_ever, plan());
    let other = names(&plan().with_sip_host(&domain("im.ours.example")));
    assert!(other.contains(&"im.ours.example".to_owned()), "{other:?}");
    assert_eq!(other.len(), names(&plan()).len() + 1);
}
