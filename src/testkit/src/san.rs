use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, Tag};

const ID_ON_XMPP_ADDR: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 8, 5];
const ID_ON_DNS_SRV: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 8, 7];

/// One name of a certificate, written as it is given: nothing is checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum San {
    /// dNSName.
    Dns(String),
    /// dNSName of any bytes, though it should be ASCII.
    RawDns(Vec<u8>),
    /// SRVName as IA5String (RFC 4985).
    Srv(String),
    /// SRVName as UTF8String, as some tools write it.
    SrvAsUtf8(String),
    /// id-on-xmppAddr as UTF8String (RFC 6120, section 13.7.1.4).
    Xmpp(String),
    /// uniformResourceIdentifier.
    Uri(String),
    /// iPAddress, four octets.
    Ipv4([u8; 4]),
    /// An otherName of a kind that nobody knows, holding the bytes as they are.
    Junk(Vec<u8>),
}

impl San {
    fn write(&self, writer: DERWriter<'_>) {
        match self {
            Self::Dns(name) => {
                writer.write_tagged_implicit(Tag::context(2), |w| w.write_ia5_string(name));
            }
            Self::RawDns(bytes) => {
                writer.write_tagged_implicit(Tag::context(2), |w| w.write_bytes(bytes));
            }
            Self::Uri(uri) => {
                writer.write_tagged_implicit(Tag::context(6), |w| w.write_ia5_string(uri));
            }
            Self::Ipv4(octets) => {
                writer.write_tagged_implicit(Tag::context(7), |w| w.write_bytes(octets));
            }
            Self::Srv(name) => {
                write_other_name(writer, ID_ON_DNS_SRV, |w| w.write_ia5_string(name));
            }
            Self::SrvAsUtf8(name) => {
                write_other_name(writer, ID_ON_DNS_SRV, |w| w.write_utf8_string(name));
            }
            Self::Xmpp(address) => {
                write_other_name(writer, ID_ON_XMPP_ADDR, |w| w.write_utf8_string(address));
            }
            Self::Junk(bytes) => {
                write_other_name(writer, &[1, 3, 6, 1, 4, 1, 99_999], |w| w.write_bytes(bytes));
            }
        }
    }
}

fn write_other_name(writer: DERWriter<'_>, oid: &[u64], value: impl FnOnce(DERWriter<'_>)) {
    writer.write_tagged_implicit(Tag::context(0), |w| {
        w.write_sequence(|w| {
            w.next().write_oid(&ObjectIdentifier::from_slice(oid));
            w.next().write_tagged(Tag::context(0), value);
        });
    });
}

/// The content of a subjectAltName extension.
pub(crate) fn extension(names: &[San]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            for name in names {
                name.write(writer.next());
            }
        });
    })
}
