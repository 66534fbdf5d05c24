use std::error::Error;
use std::io;
use std::path::PathBuf;

use gatehouse_types::Domain;

/// Why certificate files could not be made, read or taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// The file system said no.
    #[error("cannot {action} {}", .path.display())]
    File {
        /// What was tried, such as `read`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file that should hold a certificate does not.
    #[error(
        "{} holds no readable certificate: restore it from a backup, or move it away and run \
         `gatehouse cert issue`",
        .path.display()
    )]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file that should hold a private key does not.
    #[error(
        "{} holds no readable private key (PEM, without passphrase): restore it from a backup, or \
         move it away together with its certificate",
        .path.display()
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A certificate and a key that do not belong together.
    #[error(
        "{} is not the key of {}: put the right key there, or move both away",
        .key.display(),
        .certificate.display()
    )]
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Only one half of an authority is there, so nothing can be signed.
    #[error(
        "{} is there, but {} is not, so nothing can be issued here: restore it from a backup, \
         issue where the whole authority is and copy the result, or move {} away to begin with a \
         new authority (which everyone then has to trust anew)",
        .present.display(),
        .missing.display(),
        .present.display()
    )]
    HalfAuthority {
        /// The half that is there.
        present: PathBuf,
        /// The half that is not.
        missing: PathBuf,
    },
    /// The authority itself has ended.
    #[error(
        "the authority in {} has expired: move it and its key away to begin with a new one, which \
         everyone then has to trust anew",
        .path.display()
    )]
    AuthorityExpired {
        /// Its certificate.
        path: PathBuf,
    },
    /// Somebody else issued the certificate, so we do not replace it.
    #[error(
        "the certificate for {domain} does not come from the local authority, so it is not \
         replaced: move {} away first if the local authority shall issue one",
        .path.display()
    )]
    NotOurs {
        /// Whose certificate.
        domain: Domain,
        /// Its file.
        path: PathBuf,
    },
    /// An exported file would replace one that is there.
    #[error("{} is there already and is not replaced: choose an empty directory", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A node of the trunk without certificate.
    #[error(
        "there is no trunk certificate for `{name}` ({}): make it where the trunk's authority is \
         (`gatehouse trunk export`) and copy it here",
        .path.display()
    )]
    NoNode {
        /// The node's name on the trunk.
        name: Domain,
        /// Where its certificate should be.
        path: PathBuf,
    },
    /// A domain whose files would be those of the authority.
    #[error("`{domain}` cannot have a certificate here: the authority's files have that name")]
    Reserved {
        /// The domain.
        domain: Domain,
    },
    /// A certificate that was offered for a domain cannot be taken.
    #[error("this certificate cannot be used for {domain}")]
    Import {
        /// For whom it was offered.
        domain: Domain,
        /// Why not.
        #[source]
        fault: ImportFault,
    },
    /// The time that was passed in lies outside what a certificate can hold.
    #[error("the clock shows a time that no certificate can hold ({seconds} s since 1970): set it")]
    Clock {
        /// Unix seconds.
        seconds: i64,
    },
    /// The crypto library failed. Not a matter of configuration.
    #[error("cannot {action}")]
    Crypto {
        /// What was tried.
        action: &'static str,
        /// What the library says.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl PkiError {
    pub(crate) fn crypto(action: &'static str) -> impl FnOnce(rcgen::Error) -> Self {
        move |error| Self::Crypto { action, source: Box::new(error) }
    }
}

/// Why an offered certificate was not taken. Nothing has been changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportFault {
    /// No certificate in the text.
    #[error("there is no certificate in it (PEM: a block `-----BEGIN CERTIFICATE-----`)")]
    NoCertificate,
    /// A certificate that cannot be read.
    #[error("certificate {number} in it cannot be read")]
    Unreadable {
        /// Counted from 1.
        number: usize,
    },
    /// No key in the text.
    #[error("there is no private key in the key file (PEM, PKCS#8, SEC1 or PKCS#1)")]
    NoKey,
    /// The key needs a passphrase.
    #[error(
        "the private key is protected by a passphrase: write it out without one first \
         (`openssl pkey -in FILE -out NEW`)"
    )]
    EncryptedKey,
    /// No key was given, and none is kept.
    #[error(
        "there is no key for it here: give the key with it, or let `gatehouse cert csr` make one \
         and have that request signed"
    )]
    KeyMissing,
    /// The key belongs to another certificate.
    #[error("the private key belongs to another certificate")]
    KeyMismatch,
    /// The key belongs to a later certificate in the chain.
    #[error(
        "the private key belongs to certificate {number} in the chain: put the domain's own \
         certificate first, then its issuers"
    )]
    LeafNotFirst {
        /// Counted from 1.
        number: usize,
    },
    /// It was offered as the second certificate, and has another key than RSA.
    #[error(
        "its key is not RSA, and only an RSA certificate stands beside the first one: import it \
         without --rsa, in place of the first one"
    )]
    NotRsa,
    /// It does not speak for the domain.
    #[error(
        "it does not name the domain (it names {}); the CN does not count",
        if .names.is_empty() { "nobody".to_owned() } else { .names.join(", ") }
    )]
    NotNamed {
        /// Whom it names, at most eight.
        names: Vec<String>,
    },
    /// It has ended.
    #[error("it has expired")]
    Expired,
}
