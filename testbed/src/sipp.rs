//! sipp (Debian's sip-tester): load that no client of ours could make.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::failure::Failure;
use crate::process::{Account, run_to_end};

/// What it is to send.
pub(crate) struct Load<'a> {
    /// The proxy, SIP over TCP in the clear: Debian's sipp has no TLS.
    pub(crate) proxy: SocketAddr,
    /// From which address.
    pub(crate) from_address: &'a str,
    /// In whose name.
    pub(crate) from: &'a str,
    /// To whom.
    pub(crate) to: &'a str,
    /// How many.
    pub(crate) count: u32,
    /// How many a second.
    pub(crate) per_second: u32,
}

impl Load<'_> {
    /// Sends `load 1`, `load 2` and so on, each its own MESSAGE; each must be answered with 200.
    pub(crate) fn send(&self, directory: &Path) -> Result<(), Failure> {
        let file = directory.join("sipp.xml");
        fs::write(&file, self.scenario()).map_err(Failure::io("write", &file))?;
        let file = file.display().to_string();
        let (proxy, count) = (self.proxy.to_string(), self.count.to_string());
        let rate = self.per_second.to_string();
        let arguments = [
            "-t",
            "t1",
            "-i",
            self.from_address,
            "-sf",
            &file,
            "-m",
            &count,
            "-r",
            &rate,
            "-recv_timeout",
            "20000",
            "-nostdin",
            &proxy,
        ];
        let (status, said) = run_to_end(Account::Own, Path::new("sipp"), &arguments, "")?;
        if status.success() {
            return Ok(());
        }
        let end = said.char_indices().rev().nth(1500).map_or(0, |(at, _)| at);
        let end = said.get(end..).unwrap_or_default();
        Err(Failure::world(format!("sipp ended with {status}; it says at last:\n{end}")))
    }

    fn scenario(&self) -> String {
        let (from, to) = (self.from, self.to);
        format!(
            r#"<?xml version="1.0" encoding="ISO-8859-1" ?>
<!DOCTYPE scenario SYSTEM "sipp.dtd">
<scenario name="messages">
<send><![CDATA[
MESSAGE sip:{to} SIP/2.0
Via: SIP/2.0/TCP [local_ip]:[local_port];branch=[branch]
Max-Forwards: 70
From: <sip:{from}>;tag=[pid]t[call_number]
To: <sip:{to}>
Call-ID: [call_id]
CSeq: 1 MESSAGE
Content-Type: text/plain; charset=UTF-8
Content-Length: [len]

load [call_number]
]]></send>
<recv response="200"/>
</scenario>
"#
        )
    }
}
