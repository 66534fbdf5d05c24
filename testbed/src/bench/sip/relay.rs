use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::authority::Files;
use crate::block::Block;
use crate::failure::Failure;
use crate::kamailio::{ACCOUNT, MODULES, TOGETHER};
use crate::port;
use crate::process::{Process, Program, hand_over};

const START_WITHIN: Duration = Duration::from_secs(20);

/// Starts a Kamailio that does nothing but relay: a stateful proxy with Record-Route. One TCP
/// worker and the fast allocator, because the defaults of Debian cost it several times as much;
/// shared memory for what it keeps of each transaction for five seconds.
pub(crate) fn start(
    (address, partner): (u8, u8),
    block: &Block,
    files: &Files,
    trust: &Path,
    directory: &Path,
) -> Result<Process, Failure> {
    let data = directory.join("kamailio-data");
    fs::create_dir_all(&data).map_err(Failure::io("make", &data))?;
    let (key, certificate, trust) =
        (files.key.display(), files.certificate.display(), trust.display());
    let side = |name: &str| {
        format!(
            "[{name}:default]\nmethod = TLSv1.2+\nverify_certificate = yes\n\
             require_certificate = yes\nprivate_key = {key}\ncertificate = {certificate}\n\
             ca_list = {trust}\n"
        )
    };
    let (config, tls) = (directory.join("kamailio.cfg"), directory.join("kamailio-tls.cfg"));
    let text = CONFIG
        .replace("@ADDRESS@", &block.host(address).to_string())
        .replace("@PARTNER@", &block.host(partner).to_string())
        .replace("@SIPS@", &port::SIPS.to_string())
        .replace("@MODULES@", MODULES)
        .replace("@TLS@", &tls.display().to_string());
    for (file, text) in [(&config, text), (&tls, side("server") + &side("client"))] {
        fs::write(file, text).map_err(Failure::io("write", file))?;
    }
    hand_over("kamailio", &[&data, &files.key])?;
    let (config, data) = (config.display().to_string(), data.display().to_string());
    let mut process =
        Program::new("kamailio", Path::new("bash"), ACCOUNT, directory.join("kamailio.log"))
            .arguments(&["-c", TOGETHER, "bash", "kamailio"])
            .arguments(&["-DD", "-E", "-f", &config, "-Y", &data, "-w", &data])
            .arguments(&["-m", "2048", "-M", "64", "-x", "fm", "-X", "fm"])
            .start()?;
    process.await_ports(&[block.at(address, port::SIPS)], START_WITHIN)?;
    Ok(process)
}

const CONFIG: &str = r##"#!KAMAILIO
debug=0
log_stderror=yes
fork=yes
children=1
tcp_children=1
disable_tcp=no
enable_tls=yes
auto_aliases=no
listen=tls:@ADDRESS@:@SIPS@
tcp_connection_lifetime=3605
tcp_max_connections=4096
tls_max_connections=4096
tcp_accept_aliases=no

mpath="@MODULES@"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "tls.so"

modparam("tls", "config", "@TLS@")
modparam("rr", "enable_full_lr", 1)

request_route {
    if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
    if (method == "OPTIONS") { sl_send_reply("200", "OK"); exit; }
    record_route();
    $du = "sip:@PARTNER@:@SIPS@;transport=tls";
    if (!t_relay()) sl_reply_error();
}
"##;
