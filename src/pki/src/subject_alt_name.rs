use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, Tag};

use crate::name_plan::{NameKind, PlannedName};

/// The extension's own identifier (RFC 5280, section 4.2.1.6).
pub(crate) const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];

const ID_ON_XMPP_ADDR: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 8, 5];
const ID_ON_DNS_SRV: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 8, 7];

/// The content of a subjectAltName extension. Written by hand because rcgen knows an otherName
/// only as UTF8String, and SRVName is an IA5String (RFC 4985, section 2).
pub(crate) fn extension(names: &[PlannedName]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            for name in names {
                write(writer.next(), name);
            }
        });
    })
}

fn write(writer: DERWriter<'_>, name: &PlannedName) {
    let value = &name.value;
    match name.kind {
        NameKind::Dns => {
            writer.write_tagged_implicit(Tag::context(2), |w| w.write_ia5_string(value));
        }
        NameKind::Srv => write_other_name(writer, ID_ON_DNS_SRV, |w| w.write_ia5_string(value)),
        NameKind::XmppAddr => {
            write_other_name(writer, ID_ON_XMPP_ADDR, |w| w.write_utf8_string(value));
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
