use proptest::prelude::*;

use super::*;

const NS_ATTR: &str = "xmlns='urn:ietf:params:xml:ns:pidf'";

fn one(inner: &str) -> Pidf {
    parse(
        format!("<presence {NS_ATTR} entity='sip:bob@partner.test'>{inner}</presence>").as_bytes(),
    )
    .unwrap()
}

fn refused(text: &str) -> String {
    parse(text.as_bytes()).unwrap_err().0
}

#[test]
fn the_dialect_of_2004_is_read() {
    let text = r#"<presence xmlns="urn:ietf:params:xml:ns:pidf"
          xmlns:ep="urn:ietf:params:xml:ns:pidf:status:rpid-status"
          xmlns:ci="urn:ietf:params:xml:ns:pidf:cipid" entity="sip:bob@partner.test">
      <tuple id="0"><status><basic>open</basic>
         <ep:activities><ep:activity>Busy</ep:activity></ep:activities></status></tuple>
      <ci:display-name>Bob</ci:display-name>
    </presence>"#;
    let read = parse(text.as_bytes()).unwrap();
    assert_eq!(read.entity, "sip:bob@partner.test");
    assert_eq!(read.display_name.as_deref(), Some("Bob"));
    let tuple = &read.tuples[0];
    assert_eq!((tuple.id.as_str(), tuple.open), ("0", Some(true)));
    assert_eq!(tuple.activities, ["busy"]);
}

#[test]
fn the_dialect_of_rfc_4480_is_read() {
    let text = r#"<?xml version="1.0" encoding="UTF-8"?>
      <p:presence xmlns:p="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model"
         xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid" entity="pres:bob@partner.test">
        <p:tuple id="a"><p:status><p:basic>open</p:basic></p:status>
          <p:contact priority="0.8">sip:bob@pc.partner.test</p:contact>
          <p:note xml:lang="en">hello</p:note></p:tuple>
        <p:tuple id="b"><p:status><p:basic>closed</p:basic></p:status></p:tuple>
        <p:note>outside</p:note>
        <dm:person id="x"><rpid:activities from="2005-05-30T12:00:00+05:00">
          <rpid:note>far away</rpid:note><rpid:busy/><rpid:on-the-phone/></rpid:activities>
          <dm:note>of the person</dm:note></dm:person>
      </p:presence>"#;
    let read = parse(text.as_bytes()).unwrap();
    assert_eq!(read.entity, "pres:bob@partner.test");
    assert_eq!(read.activities, ["busy", "on-the-phone"]);
    assert_eq!(read.notes, ["outside", "of the person"]);
    let opens: Vec<_> = read.tuples.iter().map(|tuple| tuple.open).collect();
    assert_eq!(opens, [Some(true), Some(false)]);
    assert_eq!(read.tuples[0].priority, Some(800));
    assert_eq!(read.tuples[0].notes, ["hello"]);
}

#[test]
fn every_other_shape_that_is_on_the_wire_is_read() {
    let read = one(
        "<tuple id='t'><status><basic>open</basic><show xmlns='jabber:client'>dnd</show></status></tuple>",
    );
    assert_eq!(read.tuples[0].show.as_deref(), Some("dnd"), "RFC 8048");
    let read = one("<tuple id='t'><status><basic>open</basic><show>dnd</show></status></tuple>");
    assert_eq!(read.tuples[0].show, None, "a show of no namespace is none");

    let aol = format!("<presence {NS_ATTR} entity='bob@partner.test'/>");
    assert_eq!(parse(aol.as_bytes()).unwrap().entity, "bob@partner.test", "without scheme");
    assert_eq!(parse(aol.as_bytes()).unwrap().tuples, [], "nobody there");
    let bare = "<presence entity='sip:a@b'><tuple id='t'><status><basic> CLOSED </basic></status></tuple></presence>";
    assert_eq!(parse(bare.as_bytes()).unwrap().tuples[0].open, Some(false), "no namespace");

    let reuters = format!("<?xml version='1.0' encoding='utf-16'?>{aol}");
    assert!(parse(reuters.as_bytes()).is_ok(), "UTF-16 label over UTF-8");
    assert!(parse(format!("\u{feff}{aol}\r\n\r\n").as_bytes()).is_ok(), "byte order mark");
    assert!(parse(format!("<!-- hi --> {aol}").as_bytes()).is_ok(), "comment");
    let cdata = one("<note><![CDATA[a < b]]></note>");
    assert_eq!(cdata.notes, ["a < b"]);
    let none = one("<tuple id='t'><status/></tuple>");
    assert_eq!(none.tuples[0].open, None, "neither open nor closed");
}

#[test]
fn what_has_no_place_in_it_is_refused() {
    let doc = format!("<presence {NS_ATTR}/>");
    assert_eq!(refused(""), "not well-formed XML");
    assert_eq!(refused("<a xmlns='x'/>"), "the first element is not presence");
    assert_eq!(
        refused(&format!("<!DOCTYPE p [<!ENTITY a 'b'>]>{doc}")),
        "a document type, which is not allowed"
    );
    assert_eq!(
        refused(&format!("<?php evil?>{doc}")),
        "a processing instruction, which is not allowed"
    );
    assert_eq!(refused(&format!("<presence {NS_ATTR} entity='&evil;'/>")), "not well-formed XML");
    assert_eq!(refused(&format!("<presence {NS_ATTR}>")), "not well-formed XML");
    assert_eq!(
        refused(&format!("<presence {NS_ATTR}/><presence/>")),
        "something after the document"
    );
    assert_eq!(refused(&"a".repeat(65_537)), "longer than 64 KiB");
    assert_eq!(parse(b"\xff\xfe<").unwrap_err().0, "not UTF-8");
    let deep = format!("<presence {NS_ATTR}>{}{}</presence>", "<a>".repeat(16), "</a>".repeat(16));
    assert_eq!(refused(&deep), "too many or too deeply nested elements");
    let wide = format!("<presence {NS_ATTR}>{}</presence>", "<a/>".repeat(2100));
    assert_eq!(refused(&wide), "too many or too deeply nested elements");
}

#[test]
fn lists_and_texts_have_bounds() {
    let read = one(&"<tuple id='t'/>".repeat(40));
    assert_eq!(read.tuples.len(), 32);
    let read = one(&format!("<note>{}</note>", "ü".repeat(2000)));
    assert_eq!(read.notes[0].len(), 1024);
    assert_eq!(one(&"<note>n</note>".repeat(40)).notes.len(), 16);
}

#[test]
fn priorities() {
    for (text, value) in [
        ("1", Some(1000)),
        ("1.0", Some(1000)),
        ("0.007", Some(7)),
        (".5", Some(500)),
        ("0", Some(0)),
        ("1.1", None),
        ("2", None),
        ("-1", None),
        ("0.0001", None),
        ("x", None),
    ] {
        assert_eq!(thousandths(text), value, "{text}");
    }
}

#[test]
fn one_dialect_is_written_for_all_readers() {
    let document = Pidf {
        entity: "sip:juliet@ours.test".into(),
        tuples: vec![Tuple {
            id: "ID-balcony".into(),
            open: Some(true),
            activities: vec!["busy".into()],
            show: Some("dnd".into()),
            priority: Some(7),
            notes: vec!["<Wooing> & \"more\"".into()],
        }],
        ..Pidf::default()
    };
    let written = write(&document);
    assert_eq!(
        written.replace("><", ">\n<"),
        r#"<?xml version="1.0" encoding="UTF-8"?>
<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:ep="urn:ietf:params:xml:ns:pidf:status:rpid-status" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid" xmlns:ci="urn:ietf:params:xml:ns:pidf:cipid" entity="sip:juliet@ours.test">
<tuple id="ID-balcony">
<status>
<basic>open</basic>
<ep:activities>
<ep:activity>busy</ep:activity>
</ep:activities>
<show xmlns="jabber:client">dnd</show>
</status>
<contact priority="0.007"/>
<note>&lt;Wooing&gt; &amp; &quot;more&quot;</note>
</tuple>
<dm:person id="p1">
<rpid:activities>
<rpid:busy/>
</rpid:activities>
</dm:person>
</presence>"#
    );
    let read = parse(written.as_bytes()).unwrap();
    assert_eq!(read.tuples, document.tuples);
    assert_eq!(read.activities, ["busy"]);
}

proptest! {
    #[test]
    fn nothing_panics(data in "[<>/a-z!?&;='\" -]{0,200}") {
        let _ = parse(data.as_bytes());
        let _ = parse(format!("<presence>{data}</presence>").as_bytes());
    }

    #[test]
    fn any_text_survives_writing(text in "\\PC{1,40}") {
        let document = Pidf { entity: text.clone(), notes: vec![text.clone()], ..Pidf::default() };
        let read = parse(write(&document).as_bytes()).unwrap();
        let text = text.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
        let notes = if text.trim().is_empty() { vec![] } else { vec![text.trim().to_owned()] };
        prop_assert_eq!(read.notes, notes);
    }
}
