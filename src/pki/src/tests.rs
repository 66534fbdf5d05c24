//! Certificate directories, each in a temporary place of its own.

mod beside;
mod files;
mod importing;
mod issuing;
mod names;
mod trunk;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use gatehouse_identity::CertificateSummary;
use gatehouse_types::Domain;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::{CertDir, NamePlan, PlanOptions};

/// 2026-01-01T00:00:00Z.
const NOW: i64 = 1_767_225_600;
const DAY: i64 = 86_400;

fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

fn plan(name: &str) -> NamePlan {
    NamePlan::for_domain(&domain(name), &domain("edge.example"), PlanOptions::default())
}

/// An empty directory that does not exist yet, and the temporary one that holds it.
fn fresh() -> (tempfile::TempDir, CertDir) {
    let place = tempfile::tempdir().unwrap();
    let directory = CertDir::open(place.path().join("data/certs")).unwrap();
    (place, directory)
}

fn leaf(directory: &CertDir, name: &str) -> CertificateSummary {
    directory.summary(&domain(name)).unwrap().unwrap().summary
}

fn read(directory: &Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name)).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn ders(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

/// Path validation as a peer does it.
fn verify(
    chain_pem: &str,
    root_pem: &str,
    now: i64,
    usage: webpki::KeyUsage,
) -> Result<(), webpki::Error> {
    let (chain, roots) = (ders(chain_pem), ders(root_pem));
    let anchors: Vec<_> =
        roots.iter().map(|root| webpki::anchor_from_trusted_cert(root).unwrap()).collect();
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.unsigned_abs()));
    webpki::EndEntityCert::try_from(&chain[0])?
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &chain[1..],
            time,
            usage,
            None,
            None,
        )
        .map(|_| ())
}
