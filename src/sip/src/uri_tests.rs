use super::*;

fn uri(text: &str) -> Uri {
    Uri::parse(text).unwrap()
}

#[test]
fn what_is_read_is_written_the_same() {
    for text in [
        "sip:alice@ours.test;opaque=user:epid:AbC1_x-;gruu",
        "sip:alice@[2001:db8::1]:5061;transport=tls",
        "sips:a:pw@192.0.2.1:5060?Subject=x&To=sip:b%40c",
        "sip:user;par=u%40example.net@example.com",
        "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1@example.com",
        "tel:+1-555;phone-context=d",
        "soap.beep://192.0.2.103:3002",
        "sip:ours.test",
    ] {
        assert_eq!(uri(text).to_string(), text);
    }
    let semi = uri("sip:user;par=u%40example.net@example.com");
    assert_eq!(semi.domain().unwrap().as_str(), "example.com");
    assert_eq!(semi.user_decoded().unwrap(), "user;par=u@example.net");
    assert_eq!(uri("SIP:A@EXAMPLE.com").to_string(), "sip:A@example.com");
    assert_eq!(uri("sip:a@192.0.2.1").domain(), None);
    assert_eq!(uri("sip:%ff@d").user_decoded(), None);
}

#[test]
fn what_is_no_uri_is_refused() {
    let long = format!("sip:{}@d", "a".repeat(2048));
    for text in [
        "",
        "sip",
        "sip:",
        "alice@d",
        "sip:@d",
        "sip:a@",
        "sip:a@b@c",
        "sip:a@d:0",
        "sip:a@d:65536",
        "sip:a@d:+5",
        "sip:a@d:",
        "sip:a b@d",
        "sip:a@d\r\n",
        "sip:a@d;",
        "sip:a@d;;x",
        "sip:a@d?",
        "sip:2001:db8::10",
        "sip:[2001:db8:::192.0.2.1]",
        "sip:[::1",
        "sip:[::1]x",
        "<sip:a@d>",
        "sip:a@d;x=1;X=2",
        "sip:é@d",
        "1sip:a",
        "sip:a@d\0",
        &long,
    ] {
        assert!(Uri::parse(text).is_err(), "{text}");
    }
}

/// The examples of RFC 3261, section 19.1.4.
#[test]
fn equivalence_is_that_of_the_rfc() {
    for (a, b) in [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtlanTa.CoM;Transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5"),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
    ] {
        assert!(uri(a).equivalent(&uri(b)) && uri(b).equivalent(&uri(a)), "{a} {b}");
    }
    for (a, b) in [
        ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
        ("sip:a@d", "sips:a@d"),
    ] {
        assert!(!uri(a).equivalent(&uri(b)) && !uri(b).equivalent(&uri(a)), "{a} {b}");
    }
}

#[test]
fn nothing_set_by_code_breaks_out() {
    let domain: Domain = "ours.test".parse().unwrap();
    assert_eq!(Uri::sip(Some("fü#[@x&"), &domain).to_string(), "sip:f%C3%BC%23%5B%40x&@ours.test");
    let mut evil = Uri::sip(None, &domain);
    evil.user = Some("a> SIP/2.0\r\nVia: x@y".into());
    evil.host = Host::Name("d\r\n> x".into());
    evil.params.set("p\r\n", Some("x;y>\r\n z"));
    evil.headers = Some("a=b\r\n".into());
    let written = evil.to_string();
    assert!(!written.contains(['\r', '\n', ' ', '>', '<']), "{written}");
    assert_eq!(written.matches('@').count(), 1);
}
