//! The layering of docs/architecture.md, held against the manifests: arrows point down only, each
//! foundation has one wrapper, pure crates have no runtime.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// From the bottom up. A crate may depend on what stands on a lower line, and on what is listed
/// for it in `SIDEWAYS`.
const LAYERS: [&[&str]; 7] = [
    &["gatehouse-types"],
    &["gatehouse-identity"],
    &["gatehouse-sip", "gatehouse-xmpp", "gatehouse-policy"],
    &["gatehouse-bridge"],
    &[
        "gatehouse-config",
        "gatehouse-net",
        "gatehouse-pki",
        "gatehouse-resolve",
        "gatehouse-store",
        "gatehouse-telemetry",
        "gatehouse-tls",
        "gatehouse-trunk",
    ],
    &["gatehouse-core", "gatehouse-edge"],
    &["gatehouse"],
];

/// Arrows inside one layer: the trunk stands on sockets and TLS.
const SIDEWAYS: [(&str, &str); 2] =
    [("gatehouse-trunk", "gatehouse-net"), ("gatehouse-trunk", "gatehouse-tls")];

/// Foundations that only one crate may name.
const WRAPPERS: [(&str, &[&str]); 11] = [
    ("axum", &["gatehouse-telemetry"]),
    ("clap", &["gatehouse", "testbed"]),
    ("governor", &["gatehouse-policy"]),
    ("hickory-resolver", &["gatehouse-resolve"]),
    ("idna", &["gatehouse-types"]),
    ("rsip", &["gatehouse-sip"]),
    ("rxml", &["gatehouse-xmpp"]),
    ("sqlx", &["gatehouse-store"]),
    ("tokio-rustls", &["gatehouse-tls"]),
    ("x509-parser", &["gatehouse-identity", "gatehouse-pki"]),
    ("xmpp-parsers", &["gatehouse-xmpp"]),
];

/// No sockets, no clock, no files.
const PURE: [&str; 6] = [
    "gatehouse-types",
    "gatehouse-identity",
    "gatehouse-sip",
    "gatehouse-xmpp",
    "gatehouse-bridge",
    "gatehouse-policy",
];

/// What would give a pure crate a runtime.
const RUNTIMES: [&str; 5] = ["tokio", "tokio-util", "mio", "socket2", "async-std"];

/// Never in the tree: one crypto provider, one TLS.
const BANNED: [&str; 4] = ["ring", "openssl", "openssl-sys", "native-tls"];

#[test]
fn arrows_point_down() {
    let level = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    for (krate, dependencies) in manifests() {
        let Some(own) = level(&krate) else { continue };
        for dependency in dependencies.iter().filter(|name| name.starts_with("gatehouse")) {
            let Some(other) = level(dependency) else {
                panic!("{krate} depends on {dependency}, which is for tests only");
            };
            let sideways = SIDEWAYS.contains(&(krate.as_str(), dependency.as_str()));
            assert!(other < own || sideways, "{krate} -> {dependency} does not point down");
        }
    }
}

#[test]
fn every_crate_has_its_place() {
    let placed: BTreeSet<&str> = LAYERS.iter().flat_map(|layer| layer.iter().copied()).collect();
    for krate in manifests().keys() {
        let development = ["gatehouse-testkit", "testbed"].contains(&krate.as_str());
        assert!(development || placed.contains(krate.as_str()), "{krate} has no layer");
    }
}

#[test]
fn each_foundation_has_one_wrapper() {
    for (krate, dependencies) in manifests() {
        for (foundation, wrappers) in WRAPPERS {
            let allowed = wrappers.contains(&krate.as_str());
            assert!(allowed || !dependencies.contains(foundation), "{krate} names {foundation}");
        }
    }
}

#[test]
fn pure_crates_have_no_runtime() {
    let manifests = manifests();
    for pure in PURE {
        for runtime in RUNTIMES {
            assert!(!manifests[pure].contains(runtime), "{pure} depends on {runtime}");
        }
    }
}

#[test]
fn one_crypto_provider() {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--workspace",
            "--offline",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .output()
        .expect("cargo tree");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    for line in String::from_utf8_lossy(&tree.stdout).lines() {
        let name = line.split(' ').next().unwrap_or_default();
        assert!(!BANNED.contains(&name), "{name} is in the tree");
    }
}

/// Every crate of the workspace with its ordinary dependencies (not those for tests).
fn manifests() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies");
            let ordinary = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
            (text(&package["name"]), ordinary.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}
