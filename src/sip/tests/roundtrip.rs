//! Whatever message is built and written reads back as the same.

use gatehouse_sip::{Framer, HeaderName, Limits, Message, Method, Uri};
use proptest::prelude::*;

proptest! {
    #[test]
    fn what_is_written_is_read(
        user in "[ -~]{1,40}",
        values in prop::collection::vec("[^\r\n\0]{0,60}", 0..8),
        name in "[A-Za-z-]{2,20}",
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut uri = Uri::parse("sip:ours.test").unwrap();
        uri.user = Some(user);
        let mut message = Message::request(Method::Message, uri);
        let name = HeaderName::parse(&name).unwrap();
        prop_assume!(name != HeaderName::ContentLength);
        for value in values {
            message.headers.push(name.clone(), value).unwrap();
        }
        message.body = body.into();
        let written = message.to_bytes();
        let read = Framer::datagram(Limits::default(), &written).unwrap();
        prop_assert_eq!(&read.body, &message.body);
        prop_assert_eq!(read.headers.count(&name), message.headers.count(&name));
        prop_assert_eq!(read.to_bytes(), written);
    }

    #[test]
    fn no_bytes_make_it_panic(data in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(message) = Framer::datagram(Limits::default(), &data) {
            let _ = message.check();
        }
    }
}
