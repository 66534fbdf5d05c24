use bytes::BytesMut;
use gatehouse_types::StreamLimits;
use minidom::{Element, Node};
use proptest::prelude::*;

use super::*;
use crate::fuzzing::check_scanner;
use crate::{StreamCondition, StreamError};

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:server' \
    xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' \
    from='a.example' to='b.example' version='1.0' xml:lang='de'>";

type Outcome = (Vec<Frame>, Option<StreamError>);

fn limits() -> StreamLimits {
    StreamLimits {
        unauthenticated_element_bytes_max: 1000,
        depth_max: 6,
        attributes_max: 8,
        children_max: 10,
        ..StreamLimits::default()
    }
}

fn read_in_steps(content: ContentNamespace, data: &[u8], step: usize) -> Outcome {
    let mut framer = Framer::new(&limits(), content);
    let mut frames = Vec::new();
    for chunk in data.chunks(step.max(1)) {
        framer.push(chunk);
        loop {
            match framer.next_frame() {
                Ok(Some(frame)) => frames.push(frame.built()),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(framer.next_frame(), Err(error.clone()), "dead stays dead");
                    return (frames, Some(error));
                }
            }
        }
    }
    (frames, None)
}

/// Reads `text` in every step size; all must agree.
fn read(content: ContentNamespace, text: &str) -> Outcome {
    let whole = read_in_steps(content, text.as_bytes(), text.len());
    for step in 1..text.len() {
        assert_eq!(read_in_steps(content, text.as_bytes(), step), whole, "step {step} of {text}");
    }
    whole
}

fn read_server(after_header: &str) -> Outcome {
    read(ContentNamespace::Server, &format!("{HEADER}{after_header}"))
}

fn element_of(text: &str) -> Element {
    match read_server(text) {
        (frames, None) => match frames.as_slice() {
            [Frame::Header(_), Frame::Element(element)] => element.clone(),
            other => panic!("{other:?}"),
        },
        (_, Some(error)) => panic!("{text}: {error}"),
    }
}

fn written(content: ContentNamespace, element: &Element) -> String {
    let mut out = BytesMut::new();
    write_element(&mut out, content, element);
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn stream_is_the_same_however_it_is_cut() {
    let (frames, error) = read_server(
        "\r\n <message to='x@b.example'><body>h\u{e9} &amp; &#x1F600;<![CDATA[<raw>]]></body></message>\n\
         <db:result from='a.example'>key</db:result> </stream:stream>after the end",
    );
    assert_eq!(error, None);
    let [Frame::Header(header), Frame::Element(message), Frame::Element(result), Frame::Footer] =
        frames.as_slice()
    else {
        panic!("{frames:?}")
    };
    assert_eq!(header.from.as_deref(), Some("a.example"));
    assert_eq!(header.to.as_deref(), Some("b.example"));
    assert_eq!(header.version.as_deref(), Some("1.0"));
    assert_eq!((header.id.as_deref(), header.lang.as_deref()), (None, Some("de")));
    assert!(message.is("message", "jabber:client"));
    let body = message.get_child("body", "jabber:client").unwrap();
    assert_eq!(body.text(), "h\u{e9} & \u{1F600}<raw>");
    assert!(result.is("result", "jabber:server:dialback"));
}

#[test]
fn headers_are_judged() {
    use StreamCondition as C;
    const STREAMS: &str = "xmlns:stream='http://etherx.jabber.org/streams'";
    for (text, want) in [
        (format!("<stream:stream xmlns='jabber:server' {STREAMS}>"), None),
        (
            format!(
                " \n<?xml version='1.0' encoding='UTF-8'?>\n<stream:stream xmlns='jabber:server' {STREAMS}>"
            ),
            None,
        ),
        (
            "<s:stream xmlns='jabber:server' xmlns:s='http://etherx.jabber.org/streams'>".into(),
            None,
        ),
        (format!("<stream:stream xmlns='jabber:client' {STREAMS}>"), Some(C::InvalidNamespace)),
        (format!("<stream:stream {STREAMS}>"), Some(C::InvalidNamespace)),
        ("<stream xmlns='http://etherx.jabber.org/streams'>".into(), Some(C::InvalidNamespace)),
        (
            "<stream:stream xmlns='jabber:server' xmlns:stream='urn:other'>".into(),
            Some(C::InvalidNamespace),
        ),
        ("<stream xmlns='jabber:server'>".into(), Some(C::InvalidNamespace)),
        (format!("<stream:flood xmlns='jabber:server' {STREAMS}>"), Some(C::BadFormat)),
        ("<stream:stream xmlns='jabber:server'>".into(), Some(C::NotWellFormed)),
        (
            format!("<?xml version='1.1'?><stream:stream xmlns='jabber:server' {STREAMS}>"),
            Some(C::RestrictedXml),
        ),
        ("<?xml version='1.0' encoding='utf-16'?>".into(), Some(C::UnsupportedEncoding)),
        ("GET / HTTP/1.1\r\n\r\n".into(), Some(C::NotWellFormed)),
        (
            format!("<stream:stream xmlns='jabber:server' {STREAMS} to='{}'>", "x".repeat(1000)),
            Some(C::PolicyViolation),
        ),
        (
            format!("<stream:stream xmlns='jabber:server' {STREAMS}{}>", " ".repeat(1000)),
            Some(C::PolicyViolation),
        ),
    ] {
        let (_, error) = read(ContentNamespace::Server, &text);
        assert_eq!(error.map(|error| error.condition), want, "{text}");
    }
    let client = format!("<stream:stream xmlns='jabber:client' {STREAMS}>");
    assert_eq!(read(ContentNamespace::Client, &client).1, None);
}

#[test]
fn hostile_input_ends_the_stream() {
    use StreamCondition as C;
    let deep = "<a>".repeat(6);
    let wide = format!("<a>{}</a>", "<b/>".repeat(11));
    let attributes: String = (0..9).map(|n| format!(" a{n}=''")).collect();
    let declarations: String = (0..9).map(|n| format!(" xmlns:a{n}='u'")).collect();
    let big = format!("<a>{}</a>", "x".repeat(1000));
    let long_attribute = format!("<a b='{}'/>", "x".repeat(1000));
    let long_name = format!("<{}/>", "x".repeat(1000));
    for (text, want) in [
        ("<!DOCTYPE a [<!ENTITY b 'c'>]>", C::RestrictedXml),
        ("<a>&lol;</a>", C::RestrictedXml),
        ("<a b='&lol;'/>", C::RestrictedXml),
        ("<!-- comment -->", C::RestrictedXml),
        ("<a><!-- comment --></a>", C::RestrictedXml),
        ("<?php evil ?>", C::RestrictedXml),
        ("<?xml version='1.0'?>", C::RestrictedXml),
        ("<a></b>", C::NotWellFormed),
        ("<a b='1' b='2'/>", C::NotWellFormed),
        ("<a xmlns:x='u' xmlns:y='u' x:b='1' y:b='2'/>", C::NotWellFormed),
        ("<a xmlns:x='u' xmlns:x='v'/>", C::NotWellFormed),
        ("<a xmlns='u' xmlns='v'/>", C::NotWellFormed),
        ("<x:a/>", C::NotWellFormed),
        ("<a x:b='1'/>", C::NotWellFormed),
        ("<a xmlns:x=''/>", C::NotWellFormed),
        ("<a xmlns:xml='u'/>", C::NotWellFormed),
        ("<a b='<'/>", C::NotWellFormed),
        ("<a>]]></a>", C::NotWellFormed),
        ("<a>&#0;</a>", C::NotWellFormed),
        ("<a>\u{1}</a>", C::NotWellFormed),
        ("<a b=c/>", C::NotWellFormed),
        ("<a:b:c/>", C::NotWellFormed),
        ("</wrong>", C::NotWellFormed),
        ("<stream:stream xmlns='jabber:server'>", C::BadFormat),
        ("hello", C::NotWellFormed),
        ("<message/> x", C::NotWellFormed),
        ("<![CDATA[x]]>", C::RestrictedXml),
        ("<a><!DOCTYPE a></a>", C::RestrictedXml),
        ("<message xmlns='jabber:client'/>", C::InvalidNamespace),
        (deep.as_str(), C::PolicyViolation),
        (wide.as_str(), C::PolicyViolation),
        (&format!("<a{attributes}/>"), C::PolicyViolation),
        (&format!("<a{declarations}/>"), C::PolicyViolation),
        (big.as_str(), C::PolicyViolation),
        (long_attribute.as_str(), C::PolicyViolation),
        (long_name.as_str(), C::PolicyViolation),
        (&format!("<a {}/>", " ".repeat(1000)), C::PolicyViolation),
    ] {
        let (_, error) = read_server(text);
        assert_eq!(error.map(|error| error.condition), Some(want), "{text}");
    }
}

#[test]
fn bytes_that_are_not_utf8_end_the_stream() {
    for bytes in [&b"<a>\xff</a>"[..], b"<a>\xc0\xaf</a>", b"<a>\xed\xa0\x80</a>"] {
        let data = [HEADER.as_bytes(), bytes].concat();
        for step in 1..=data.len() {
            let (_, error) = read_in_steps(ContentNamespace::Server, &data, step);
            let condition = error.map(|error| error.condition);
            assert_eq!(condition, Some(StreamCondition::UnsupportedEncoding), "step {step}");
        }
    }
}

#[test]
fn limits_are_exact() {
    let fits = |text: &str| read_server(text).1.is_none();
    let sized = |bytes: usize| format!("<a>{}</a>", "x".repeat(bytes - "<a></a>".len()));
    assert!(fits(&sized(1000)) && !fits(&sized(1001)), "bytes");
    assert!(fits(&format!("{0}\n{0}", sized(1000))), "bytes are counted per element");
    assert!(fits(&format!("{}{}", " ".repeat(3000), sized(1000))), "keepalives cost nothing");
    let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    assert!(fits(&nested(5)) && !fits(&nested(6)), "depth, the stream element counted");
    let wide = |children: usize| format!("<a>{}</a>", "<b/>".repeat(children));
    assert!(fits(&wide(10)) && !fits(&wide(11)), "children");
    let attributes = |count: usize| {
        let list: String = (0..count).map(|n| format!(" a{n}=''")).collect();
        format!("<a{list}/>")
    };
    assert!(fits(&attributes(8)) && !fits(&attributes(9)), "attributes");
}

#[test]
fn elements_and_declarations_are_bounded_in_sum() {
    let limits = StreamLimits { unauthenticated_element_bytes_max: 1 << 20, ..limits() };
    let read = |text: String| {
        let limits =
            StreamLimits { children_max: 1 << 20, attributes_max: 1 << 20, ..limits.clone() };
        let mut framer = Framer::new(&limits, ContentNamespace::Server);
        framer.push(HEADER.as_bytes());
        framer.push(text.as_bytes());
        assert!(matches!(framer.next_frame(), Ok(Some(Frame::Header(_)))));
        framer.next_frame().map_err(|error| error.condition)
    };
    let too_much = Err(StreamCondition::PolicyViolation);
    assert!(read(format!("<a>{}</a>", "<b/>".repeat(16_383))).is_ok());
    assert_eq!(read(format!("<a>{}</a>", "<b/>".repeat(16_384))), too_much);
    let declarations: String = (0..300).map(|n| format!(" xmlns:a{n}='u'")).collect();
    assert_eq!(read(format!("<a{declarations}/>")), too_much);
}

#[test]
fn a_stalled_element_holds_no_more_than_the_limit() {
    let mut framer = Framer::new(&limits(), ContentNamespace::Server);
    framer.push(HEADER.as_bytes());
    assert!(matches!(framer.next_frame(), Ok(Some(Frame::Header(_)))));
    framer.push(b"<message><body>");
    for pushed in 0.. {
        framer.push(b"x");
        match framer.next_frame() {
            Ok(None) => assert!(pushed < 1000, "unbounded"),
            Ok(Some(frame)) => panic!("{frame:?}"),
            Err(error) => {
                assert_eq!(error.condition, StreamCondition::PolicyViolation);
                break;
            }
        }
    }
}

#[test]
fn element_limit_can_be_raised_but_not_the_header_limit() {
    let big = format!("<a>{}</a>", "x".repeat(5000));
    let mut framer = Framer::new(&limits(), ContentNamespace::Server);
    framer.set_element_bytes_max(6000);
    framer.push(HEADER.as_bytes());
    framer.push(big.as_bytes());
    assert!(matches!(framer.next_frame(), Ok(Some(Frame::Header(_)))));
    assert!(matches!(framer.next_frame(), Ok(Some(Frame::Element(_)))));

    framer.restart(Leftover::Keep);
    framer.push(HEADER.replace("a.example", &"a".repeat(2000)).as_bytes());
    assert!(framer.next_frame().is_err());
}

#[test]
fn bytes_before_tls_are_dropped_and_after_sasl_kept() {
    for (leftover, want) in [(Leftover::Drop, false), (Leftover::Keep, true)] {
        let mut framer = Framer::new(&limits(), ContentNamespace::Server);
        framer.push(HEADER.as_bytes());
        framer.push(b"<a/>\n");
        assert!(matches!(framer.next_frame(), Ok(Some(Frame::Header(_)))));
        assert!(matches!(framer.next_frame(), Ok(Some(Frame::Element(_)))));
        assert!(!framer.has_leftover(), "white space is no leftover");
        framer.push(HEADER.as_bytes());
        assert!(framer.has_leftover());
        framer.restart(leftover);
        let header = framer.next_frame().unwrap();
        assert_eq!(header.is_some(), want, "{leftover:?}");
    }
}

#[test]
fn half_an_element_is_a_leftover() {
    let mut framer = Framer::new(&limits(), ContentNamespace::Server);
    framer.push(HEADER.as_bytes());
    framer.push(b"<a/><mess");
    assert!(matches!(framer.next_frame(), Ok(Some(Frame::Header(_)))));
    assert!(matches!(framer.next_frame(), Ok(Some(Frame::Element(_)))));
    assert!(framer.has_leftover());
    assert_eq!(framer.next_frame(), Ok(None));
    assert!(framer.has_leftover(), "the parser holds it now");
}

#[test]
fn old_servers_declare_dialback_in_the_header() {
    for (header, want) in [(HEADER.to_owned(), true), (HEADER.replace("dialback", "x"), false)] {
        let mut framer = Framer::new(&limits(), ContentNamespace::Server);
        framer.push(header.as_bytes());
        assert!(matches!(framer.next_frame(), Ok(Some(Frame::Header(_)))));
        assert_eq!(framer.dialback_declared(), want);
    }
}

#[test]
fn written_header_reads_back() {
    let header = StreamHeader {
        from: Some("it's <a> & \"b\"".into()),
        to: Some("b.example".into()),
        id: Some("1".into()),
        version: Some("1.0".into()),
        lang: Some("en".into()),
    };
    for content in [ContentNamespace::Client, ContentNamespace::Server] {
        let mut out = BytesMut::new();
        write_header(&mut out, content, &header);
        let text = String::from_utf8(out.to_vec()).unwrap();
        assert_eq!(
            text.contains("xmlns:db='jabber:server:dialback'"),
            content == ContentNamespace::Server
        );
        let (frames, error) = read(content, &text);
        assert_eq!((frames, error), (vec![Frame::Header(header.clone())], None));
    }
}

#[test]
fn written_elements_are_plain() {
    let message = "<message xmlns='jabber:client' to='b'><body>1 &lt; 2</body><x xmlns='u:x'><y/></x></message>";
    let message: Element = message.parse().unwrap();
    assert_eq!(
        written(ContentNamespace::Server, &message),
        "<message to='b'><body>1 &lt; 2</body><x xmlns='u:x'><y/></x></message>"
    );
    let result: Element = "<result xmlns='jabber:server:dialback' type='valid'/>".parse().unwrap();
    assert_eq!(written(ContentNamespace::Server, &result), "<db:result type='valid'/>");
    assert_eq!(
        written(ContentNamespace::Client, &result),
        "<result xmlns='jabber:server:dialback' type='valid'/>"
    );
    let features: Element = "<stream:features xmlns:stream='http://etherx.jabber.org/streams'>\
        <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>"
        .parse()
        .unwrap();
    assert_eq!(
        written(ContentNamespace::Client, &features),
        "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>\
         </stream:features>"
    );
}

#[test]
fn what_xml_reserves_is_escaped() {
    let mut element = Element::bare("a", "u");
    element.set_attr(
        rxml::Namespace::NONE,
        rxml::xml_ncname!("b").to_owned(),
        "'\"<>&\t\n\r\u{0}\u{ffff}",
    );
    element.append_text("'\"<>&\t\n\r\u{1}\u{fffe}]]>\u{10ffff}");
    assert_eq!(
        written(ContentNamespace::Client, &element),
        "<a xmlns='u' b='&#39;\"&lt;>&amp;&#9;&#10;&#13;\u{fffd}\u{fffd}'>\
         '\"&lt;>&amp;\t\n&#13;\u{fffd}\u{fffd}]]&gt;\u{10ffff}</a>"
    );
}

#[test]
fn content_is_in_one_namespace_inside() {
    // Whatever spelling the next hop would take for content must look like content here too.
    let smuggled = element_of("<message><x xmlns='u'><body xmlns='jabber:server'/></x></message>");
    let x = smuggled.get_child("x", "u").unwrap();
    assert!(x.has_child("body", "jabber:client"));
    let header = HEADER.replace("jabber:server'", "jabber:client'");
    let text = format!("{header}<message><body xmlns='jabber:server'>x</body></message>");
    let (frames, error) = read(ContentNamespace::Client, &text);
    assert_eq!(error, None);
    let Some(Frame::Element(message)) = frames.last() else { panic!("{frames:?}") };
    assert!(message.has_child("body", "jabber:client"));
}

#[test]
fn a_carried_stanza_stays_in_the_client_namespace() {
    const CARRIED: &str = "<message to='b'><forwarded xmlns='urn:xmpp:forward:0'>\
        <message xmlns='jabber:client' from='c'><body>x</body><y xmlns='u'/></message>\
        <delay xmlns='urn:xmpp:delay'/></forwarded><body>outer</body></message>";
    let element = element_of(CARRIED);
    for content in [ContentNamespace::Server, ContentNamespace::Client] {
        assert_eq!(written(content, &element), CARRIED);
    }
}

#[test]
fn prefixed_attributes_keep_their_namespace() {
    let text = "<message xml:lang='de'><a xmlns='u' xmlns:p='v' xmlns:q='w' p:b='1' q:b='2' b='3'/></message>";
    let element = element_of(text);
    let again = element_of(&written(ContentNamespace::Server, &element));
    assert_eq!(again, element);
    let a = again.get_child("a", "u").unwrap();
    assert_eq!(
        (a.attr_ns("v", "b"), a.attr_ns("w", "b"), a.attr("b")),
        (Some("1"), Some("2"), Some("3"))
    );
    assert_eq!(again.attr_ns(ns::XML, "lang"), Some("de"));
}

#[test]
fn written_error_reads_back() {
    let error = StreamError::new(StreamCondition::HostUnknown, "a <b> is not here");
    let mut out = BytesMut::new();
    write_error(&mut out, &error);
    let element = element_of(std::str::from_utf8(&out).unwrap());
    assert_eq!(StreamError::from_element(&element), Some(error));
}

/// What must hold for any bytes at all. A fuzz target is one call to this function.
fn check_framer(data: &[u8]) {
    check_scanner(data);
    for content in [ContentNamespace::Client, ContentNamespace::Server] {
        let whole = read_in_steps(content, data, data.len());
        for step in [1, 2, 3, 7, 64] {
            assert_eq!(read_in_steps(content, data, step), whole, "step {step}");
        }
        for frame in whole.0 {
            if let Frame::Element(element) = frame {
                check_round_trip(content, &element);
            }
        }
    }
}

/// What we write is what we read.
fn check_round_trip(content: ContentNamespace, element: &Element) {
    let mut out = BytesMut::new();
    write_header(&mut out, content, &StreamHeader::default());
    write_element(&mut out, content, element);
    let limits = StreamLimits {
        // References and namespace declarations make it longer.
        unauthenticated_element_bytes_max: 1 << 20,
        attributes_max: 1 << 10,
        ..StreamLimits::default()
    };
    let mut framer = Framer::new(&limits, content);
    framer.push(&out);
    assert!(matches!(framer.next_frame(), Ok(Some(Frame::Header(_)))));
    let read = framer.next_frame().unwrap().and_then(Frame::into_element);
    assert_eq!(read.as_ref(), Some(element), "{out:?}");
}

/// Pieces that make XML likelier than random bytes would.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("<message to='x'>".to_owned()),
        Just("</message>".to_owned()),
        Just("<a xmlns='u'>".to_owned()),
        Just("</a>".to_owned()),
        Just("<x:a xmlns:x='jabber:client' x:b='1'/>".to_owned()),
        Just("<b xmlns='jabber:server'/>".to_owned()),
        Just("<b xmlns=''/>".to_owned()),
        Just("<c d='&lt;&#10;' xml:lang='en'/>".to_owned()),
        Just("<![CDATA[<]]>".to_owned()),
        Just("&amp;".to_owned()),
        Just("\r\n".to_owned()),
        Just("</stream:stream>".to_owned()),
        Just("<!--".to_owned()),
        "[ -~]{0,4}",
        "\\PC{0,3}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        check_framer(&data);
    }

    #[test]
    fn any_bytes_after_a_header(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        check_framer(&[HEADER.as_bytes(), &data].concat());
    }

    #[test]
    fn almost_xml(pieces in proptest::collection::vec(piece(), 0..30)) {
        check_framer(format!("{HEADER}{}", pieces.concat()).as_bytes());
    }

    #[test]
    fn any_element(element in element()) {
        check_round_trip(ContentNamespace::Server, &element);
        check_round_trip(ContentNamespace::Client, &element);
    }
}

/// Any element that XML can hold, the content namespaces among its namespaces.
fn element() -> impl Strategy<Value = Element> {
    let text = "[ -~\t\n\r\u{e9}\u{1F600}]{0,12}";
    let namespace = prop_oneof![Just("jabber:client"), Just("u:a"), Just("u:b&'\"<"), Just("")];
    let attribute_namespace = prop_oneof![Just(""), Just("u:a"), Just("u:c"), Just(ns::XML)];
    let bare = move |children: BoxedStrategy<Vec<Node>>| {
        let attributes = proptest::collection::vec(
            (attribute_namespace.clone(), "[a-w][a-z0-9.-]{0,3}", text),
            0..4,
        );
        (namespace.clone(), "[a-z][a-z0-9-]{0,5}", attributes, children).prop_map(
            |(namespace, name, attributes, children)| {
                let mut element = Element::bare(name, namespace);
                for (namespace, name, value) in attributes {
                    let name = rxml::NcName::try_from(name).unwrap();
                    let namespace = rxml::Namespace::from(namespace.to_owned());
                    element.attrs_mut().insert(namespace, name, value);
                }
                for child in children {
                    match child {
                        Node::Element(child) => drop(element.append_child(child)),
                        // Neighbours would be read as one, and nothing as nothing.
                        Node::Text(text) if text.is_empty() => {}
                        Node::Text(text) => element.append_text(text),
                    }
                }
                element
            },
        )
    };
    let leaf = bare.clone()(Just(Vec::new()).boxed());
    leaf.prop_recursive(3, 20, 4, move |inner| {
        let node = prop_oneof![inner.prop_map(Node::Element), text.prop_map(Node::Text)];
        bare.clone()(proptest::collection::vec(node, 0..4).boxed())
    })
}
