//! What one stream lets in, we can write on the next, and the next takes it.

use bytes::BytesMut;
use gatehouse_types::StreamLimits;
use minidom::Element;
use proptest::prelude::*;

use super::*;
use crate::fuzzing::check_scanner;
use crate::{StreamCondition, StreamError};

const BOTH: [ContentNamespace; 2] = [ContentNamespace::Client, ContentNamespace::Server];

/// Bounds that a generated stanza can reach.
fn narrow() -> StreamLimits {
    StreamLimits {
        depth_max: 6,
        attributes_max: 6,
        children_max: 6,
        elements_max: 12,
        declarations_max: 10,
        ..limits(StreamLimits::default())
    }
}

/// As after authentication.
fn limits(limits: StreamLimits) -> StreamLimits {
    StreamLimits { unauthenticated_element_bytes_max: limits.stanza_bytes_max, ..limits }
}

fn read(
    limits: &StreamLimits,
    content: ContentNamespace,
    bytes: &[u8],
) -> Result<Element, StreamError> {
    let mut framer = Framer::new(limits, content);
    let mut out = BytesMut::new();
    write_header(&mut out, content, &StreamHeader::default());
    framer.push(&out);
    assert!(matches!(framer.next_frame(), Ok(Some(Frame::Header(_)))));
    framer.push(bytes);
    Ok(framer.next_frame()?.and_then(Frame::into_element).unwrap())
}

fn written(content: ContentNamespace, element: &Element) -> BytesMut {
    let mut out = BytesMut::new();
    write_element(&mut out, content, element);
    out
}

/// Reads `text` as a server's, passes it on, and returns the longest form it then had. Servers and
/// clients with limits like the first one's read it, and so does a trunk.
fn passes(limits: &StreamLimits, text: &str) -> usize {
    let element = read(limits, ContentNamespace::Server, text.as_bytes()).unwrap();
    let lengths = BOTH.map(|content| {
        let out = written(content, &element);
        let next = StreamLimits {
            unauthenticated_element_bytes_max: limits.unauthenticated_element_bytes_max + 32 * 1024,
            ..limits.clone()
        };
        assert_eq!(read(&next, content, &out).as_ref(), Ok(&element));
        out.len()
    });
    let trunk = self::limits(StreamLimits::trunk());
    let out = written(ContentNamespace::Server, &element);
    assert_eq!(read(&trunk, ContentNamespace::Server, &out), Ok(element));
    lengths.into_iter().max().unwrap()
}

fn refusal(text: &str) -> StreamCondition {
    let limits = limits(StreamLimits::default());
    read(&limits, ContentNamespace::Server, text.as_bytes()).unwrap_err().condition
}

#[test]
fn text_does_not_grow() {
    let limits = limits(StreamLimits::default());
    let len = 500_000;
    for inner in [
        ">".repeat(len),
        format!("<![CDATA[{}]]>", "&".repeat(len)),
        format!("<![CDATA[{}]]>", "&<>".repeat(len / 3)),
        "<![CDATA[]]]]><![CDATA[>&&&&&&]]>&#13;".repeat(len / 38),
        "]>]]&gt;".repeat(len / 8),
        "<a><![CDATA[&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&]]></a>".repeat(4000),
    ] {
        let text = format!("<message><body>{inner}</body></message>");
        let longest = passes(&limits, &text);
        assert!(longest <= text.len() + 20_000, "{} became {longest}", text.len());
    }
    // Ordinary text is written as everybody does it.
    let element = read(&limits, ContentNamespace::Server, b"<x><![CDATA[a && b < c]]></x>");
    let out = written(ContentNamespace::Server, &element.unwrap());
    assert_eq!(&*out, b"<x>a &amp;&amp; b &lt; c</x>");
}

#[test]
fn attributes_do_not_grow() {
    let limits = limits(StreamLimits::default());
    for value in [
        format!("\"{}\"", "'".repeat(8000)),
        format!("'{}'", "\"".repeat(8000)),
        format!("'{}'", ">".repeat(8000)),
        format!("'{}'", "\"&#39;".repeat(1200)),
    ] {
        let text = format!("<message id={value}/>");
        let longest = passes(&limits, &text);
        assert!(longest <= text.len(), "{} became {longest}", text.len());
    }
}

/// A prefix of one letter stands for a name of thousands, wherever it is used.
#[test]
fn what_prefixes_stand_for_counts() {
    let long = "u".repeat(5000);
    let (open, close) = (format!("<message xmlns:x='{long}'>"), "</message>");
    let text = |inner: &str, times| format!("{open}{}{close}", inner.repeat(times));
    let limits = limits(StreamLimits::default());
    for inner in ["<x:a/>", "<a x:b=''/>", "<a><x:b/></a>"] {
        passes(&limits, &text(inner, 90));
        assert_eq!(refusal(&text(inner, 120)), StreamCondition::PolicyViolation, "{inner}");
    }
    // Many in one element share one declaration.
    passes(&limits, &text("<x:a><x:b/><x:b/><x:b/></x:a>", 90));
    // A name that is left and needed again.
    let again = format!("<m xmlns='{long}'>{}</m>", "<x xmlns='u'><q xmlns='v'/></x>".repeat(500));
    passes(&limits, &again);
}

#[test]
fn declarations_that_we_add_count() {
    let attributes: String = (0..64).map(|number| format!(" a{number}=''")).collect();
    let full = |open: &str, name: &str, attributes: &str| {
        format!("<message {open}><{name}{attributes}/></message>")
    };
    let limits = limits(StreamLimits::default());
    passes(&limits, &full("", "a", &attributes));
    assert_eq!(refusal(&full("xmlns:x='u'", "x:a", &attributes)), StreamCondition::PolicyViolation);
    passes(&limits, &full("xmlns:x='u'", "x:a", &attributes.replacen(" a0=''", "", 1)));
    // As many as may be in force, on every level.
    let prefixes: String = (0..30).map(|number| format!(" xmlns:p{number}='u{number}'")).collect();
    let used: String = (0..30).map(|number| format!(" p{number}:a=''")).collect();
    let nest = |levels: usize| {
        let (open, close) = (format!("<a{used}>").repeat(levels), "</a>".repeat(levels));
        format!("<message{prefixes}>{open}{close}</message>")
    };
    passes(&limits, &nest(8));
    assert_eq!(refusal(&nest(9)), StreamCondition::PolicyViolation);
}

#[test]
fn reserved_names_stay_reserved() {
    const XML: &str = "http://www.w3.org/XML/1998/namespace";
    const XMLNS: &str = "http://www.w3.org/2000/xmlns/";
    use StreamCondition as C;
    for (text, want) in [
        ("<message><xml:x/></message>".to_owned(), C::BadNamespacePrefix),
        (format!("<message><x xmlns='{XML}'/></message>"), C::NotWellFormed),
        (format!("<message><x xmlns='{XMLNS}'/></message>"), C::NotWellFormed),
        (format!("<message xmlns:p='{XML}'/>"), C::NotWellFormed),
        (format!("<message xmlns:p='{XMLNS}' p:a=''/>"), C::NotWellFormed),
        (format!("<message xmlns:xmlns='{XMLNS}'/>"), C::NotWellFormed),
        ("<message xmlns:xmlns='u'/>".to_owned(), C::NotWellFormed),
        ("<message><xmlns:x/></message>".to_owned(), C::NotWellFormed),
        ("<message xmlns:xml='u'/>".to_owned(), C::NotWellFormed),
        ("<message xmlns:p=''/>".to_owned(), C::NotWellFormed),
        ("<message xmlns:p='u'><p:x xmlns:p=''/></message>".to_owned(), C::NotWellFormed),
    ] {
        assert_eq!(refusal(&text), want, "{text}");
    }
    let limits = limits(StreamLimits::default());
    passes(&limits, &format!("<message xmlns:xml='{XML}' xml:lang='de' xml:a='b'/>"));
    passes(&limits, "<message xmlns:p='u'><x xmlns='' p:xmlns='1'/></message>");
}

/// Names that expat, which follows the fourth edition of XML 1.0, would refuse.
#[test]
fn names_are_those_that_everybody_takes() {
    for name in ["\u{10000}", "a\u{1f600}", "\u{2c00}", "\u{132}", "a\u{203f}"] {
        for text in [format!("<m><{name}/></m>"), format!("<m {name}='1'/>")] {
            assert_eq!(refusal(&text), StreamCondition::NotWellFormed, "{text}");
        }
    }
    passes(
        &limits(StreamLimits::default()),
        "<m Gr\u{f6}\u{df}e='1'><\u{418}\u{43c}\u{44f}/><\u{540d}-1/></m>",
    );
}

/// What goes out with the bytes that came, and what is written anew.
#[test]
fn what_everybody_writes_goes_out_as_it_came() {
    let pass = |came: &str| {
        let mut framer = Framer::new(&StreamLimits::default(), ContentNamespace::Server);
        let mut out = BytesMut::new();
        write_header(&mut out, ContentNamespace::Server, &StreamHeader::default());
        framer.push(&out);
        assert!(matches!(framer.next_frame(), Ok(Some(Frame::Header(_)))));
        framer.push(came.as_bytes());
        let Ok(Some(Frame::Stanza(raw))) = framer.next_frame() else { panic!("{came}") };
        let stanza = crate::Stanza::from_raw(raw).unwrap();
        let mut out = BytesMut::new();
        stanza.write(&mut out, None);
        String::from_utf8(out.to_vec()).unwrap()
    };
    for (came, inside) in [
        ("<message id=\"1\" to='b@y' from='a@x'><body >&quot;&#x41;></body></message>", None),
        (
            "<message id=\"1\" to='b@y' xmlns='jabber:server' from='a@x'><q xmlns=\"u\"><r/></q></message>",
            None,
        ),
        ("<presence xml:lang='de' from='a@x' to='b@y'\n></presence >", None),
        ("<message from='a@x' to='b@y'/>", None),
        // Line ends and CDATA are read in more than one way, prefixes are not liked everywhere, and a
        // name of one stream means something else on another.
        ("<iq from='a@x' to='b@y'>\r\n</iq>", Some(">\n</iq>")),
        ("<iq from='a@x' to='b@y'><![CDATA[<]]></iq>", Some(">&lt;</iq>")),
        ("<iq from='a@x' to='b@y'><p:q xmlns:p='u'/></iq>", Some("><q xmlns='u'/></iq>")),
        ("<iq from='a@x' to='b@y'><q xmlns='jabber:server'/></iq>", Some("><q/></iq>")),
        ("<iq from='a@x' to='b@y'><q xmlns:p='u'/></iq>", Some("><q/></iq>")),
        ("<iq from='a@x' to='b@y'><q xmlns='&#117;'/></iq>", Some("><q xmlns='u'/></iq>")),
        ("<iq from='a@x' to='b@y' xmlns:p='u' p:a=''/>", Some(" xmlns:ns1='u' ns1:a=''/>")),
    ] {
        let out = pass(came);
        let (start, end) = (came.split_once([' ', '>']).unwrap().0, came.find('>').unwrap());
        let want = inside.unwrap_or_else(|| &came[end..]);
        assert!(out.starts_with(start) && out.ends_with(want), "{came} became {out}");
        assert_eq!(out.matches("from='a@x'").count(), 1, "{out}");
    }
}

/// Byte by byte costs no more than it should: with another look at all that is there for each byte,
/// this test would take hours.
#[test]
fn many_small_pieces_cost_little() {
    let limits = limits(StreamLimits::default());
    let attributes: String = (0..60).map(|n| format!(" a{n}='{}'", "x".repeat(7000))).collect();
    for (open, inside, close) in [
        ("<message><body>", "x".repeat(500_000), "</body></message>"),
        ("<message><body><![CDATA[", "]]".repeat(250_000), "]]></body></message>"),
        ("<message", attributes, "/>"),
        ("<message", " ".repeat(500_000), "/>"),
        ("<message>", "<a/>".repeat(4000), "</message>"),
    ] {
        let mut framer = Framer::new(&limits, ContentNamespace::Server);
        let mut out = BytesMut::new();
        write_header(&mut out, ContentNamespace::Server, &StreamHeader::default());
        framer.push(&out);
        assert!(matches!(framer.next_frame(), Ok(Some(Frame::Header(_)))));
        let text = [open, &inside, close].concat();
        for byte in text.as_bytes() {
            assert_eq!(framer.next_frame(), Ok(None));
            framer.push(std::slice::from_ref(byte));
        }
        assert!(matches!(framer.next_frame(), Ok(Some(Frame::Stanza(_)))), "{open}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn whatever_is_taken_can_be_passed_on(text in message()) {
        check_scanner(text.as_bytes());
        if read(&narrow(), ContentNamespace::Server, text.as_bytes()).is_ok() {
            passes(&narrow(), &text);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn two_readers_agree_on_what_is_broken(
        text in message(),
        at in any::<proptest::sample::Index>(),
        len in 0_usize..3,
        splice in splice(),
    ) {
        let (at, mut bytes) = (at.index(text.len()), text.into_bytes());
        let end = (at + len).min(bytes.len());
        bytes.splice(at..end, splice);
        check_scanner(&bytes);
    }
}

/// Bytes that change what stands around them.
fn splice() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![
        proptest::sample::select(
            &b"<>/='\"&;#x!?[]: \t\r\n-.0a\x00\x7f\xc3\xa9\xef\xbf\xbe\xff"[..]
        )
        .prop_map(|byte| vec![byte]),
        proptest::sample::select(vec![
            "]]>",
            "<![CDATA[",
            "<!--",
            "<?xml ?>",
            "&#x0;",
            "&#xfffe;",
            "&#10;",
            "&lt",
            "\u{fffe}",
            " xmlns='jabber:server'",
            " xmlns:p='u'",
            "<p:a/>",
            " xml:lang='x'",
            "\r\n",
            "/>",
            " xmlns:t='urn:gatehouse:trace:0' t:trace='0123456789abcdef'",
            " to='a@b.example'",
            " id='&amp;'",
            " type='chat'",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    proptest::collection::vec(bytes, 0..3).prop_map(|parts| parts.concat())
}

/// A stanza in all the spellings that XML has.
fn message() -> impl Strategy<Value = String> {
    let declarations = proptest::collection::vec(declaration(), 0..3);
    (declarations, element()).prop_map(|(declarations, element)| {
        let declarations = unique(declarations);
        format!(
            "<message xmlns:p='u:p' xmlns:c='jabber:client' xmlns:s='jabber:server' \
             {declarations}>{element}</message>"
        )
    })
}

fn declaration() -> impl Strategy<Value = String> {
    let uri = prop_oneof![
        20 => Just("u:p"),
        20 => Just("u:q&lt;&amp;"),
        12 => Just("jabber:client"),
        12 => Just("jabber:server"),
        8 => Just("http://etherx.jabber.org/streams"),
        1 => Just(""),
        1 => Just(ns::XML),
    ];
    let name = prop_oneof![12 => Just("xmlns"), 6 => Just("xmlns:p"), 1 => Just("xmlns:q")];
    (name, uri).prop_map(|(name, uri)| format!("{name}='{uri}'"))
}

fn attribute() -> impl Strategy<Value = String> {
    let name =
        prop_oneof![Just("a"), Just("b"), Just("p:a"), Just("c:a"), Just("xml:lang"), Just("s:b")];
    let value = prop_oneof![
        Just("''"),
        Just("\"'\""),
        Just("'\"&#39;&apos;'"),
        Just("'&lt;>&#10; \t'"),
        Just("'\u{e9}'"),
    ];
    prop_oneof![(name, value).prop_map(|(name, value)| format!("{name}={value}")), declaration(),]
}

/// Those with different names.
fn unique(all: Vec<String>) -> String {
    let name = |one: &str| one.split('=').next().map(ToOwned::to_owned);
    let mut kept: Vec<String> = Vec::new();
    for one in all {
        if !kept.iter().any(|known| name(known) == name(&one)) {
            kept.push(one);
        }
    }
    kept.join(" ")
}

fn element() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        Just("]]&gt;"),
        Just(">"),
        Just("]"),
        Just("&#13;"),
        Just("<![CDATA[&&<<]]]>"),
        Just("<![CDATA[]]]]><![CDATA[>]]>"),
        Just("&amp;\r\n"),
        Just("x"),
    ];
    let leaf = text.prop_map(ToOwned::to_owned);
    leaf.prop_recursive(4, 12, 4, |inner| {
        let name = prop_oneof![
            8 => Just("a"),
            8 => Just("p:a"),
            4 => Just("c:body"),
            4 => Just("s:body"),
            1 => Just("xml:a"),
        ];
        let attributes = proptest::collection::vec(attribute(), 0..4);
        let nodes = proptest::collection::vec(inner, 0..4);
        (name, attributes, nodes).prop_map(|(name, attributes, nodes)| {
            format!("<{name} {}>{}</{name}>", unique(attributes), nodes.concat())
        })
    })
}
