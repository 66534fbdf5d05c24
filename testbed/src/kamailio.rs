use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::block::Block;
use crate::failure::Failure;
use crate::gatehouse;
use crate::port;
use crate::process::{Account, Process, Program, hand_over, run_to_end};
use crate::prosody::Surroundings;
use crate::shape::Shape;
use crate::world::{Inside, Peer};

/// The account of Debian's package.
pub(crate) const ACCOUNT: Account = Account::Daemon("kamailio");
const START_WITHIN: Duration = Duration::from_secs(20);
/// Where Debian keeps its modules.
pub(crate) const MODULES: &str = "/usr/lib/x86_64-linux-gnu/kamailio/modules/";
const SCHEMAS: &str = "/usr/share/kamailio/db_sqlite";

/// Kamailio is seven processes, and six would outlive the first. However the shell ends, its end of
/// the pipe is closed, and whoever reads the other one ends the group.
pub(crate) const TOGETHER: &str = r#"
set -m
"$@" &
group=$!
exec 3> >(cat >/dev/null; kill -KILL -- "-$group" 2>/dev/null)
trap 'kill -TERM "$group"' TERM
while kill -0 "$group" 2>/dev/null; do wait "$group"; status=$?; done
exit "$status"
"#;

/// A real Kamailio in one scenario: registrar, presence agent, and proxy with mutual TLS towards us.
///
/// Phones reach it over TCP in the clear; whatever they send to another domain is sent to our edge.
/// Its users without a phone answer as their names say: `reject` 403, `busy` 486, `gone` 480,
/// `filtered` 606 with Lync's warning, `mute` nothing, and everybody else takes the message.
pub(crate) struct Kamailio {
    peer: Peer,
    address: u8,
    directory: PathBuf,
}

impl Kamailio {
    /// A Kamailio at the last octet `address` whose files are in `directory`.
    pub(crate) fn new(peer: Peer, address: u8, directory: PathBuf) -> Self {
        Self { peer, address, directory }
    }

    /// Its log, where it writes each request and each message that it took.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.peer.name))
    }

    /// Writes its configuration and makes its database.
    pub(crate) fn prepare(&self, surroundings: &Surroundings<'_>) -> Result<(), Failure> {
        let data = self.data();
        fs::create_dir_all(&data).map_err(Failure::io("make", &data))?;
        for (file, text) in [
            (self.config_file(), self.config(surroundings.block)),
            (self.file("tls.cfg"), tls(surroundings)),
        ] {
            fs::write(&file, text).map_err(Failure::io("write", &file))?;
        }
        let mut schema = "PRAGMA synchronous = OFF;\n".to_owned();
        for name in ["standard", "presence"] {
            let file = Path::new(SCHEMAS).join(format!("{name}-create.sql"));
            schema += &fs::read_to_string(&file).map_err(Failure::io("read", &file))?;
        }
        let database = self.database().display().to_string();
        let (status, said) = run_to_end(Account::Own, Path::new("sqlite3"), &[&database], &schema)?;
        if !status.success() {
            return Err(Failure::world(format!("cannot make {database}: {said}")));
        }
        // Debian's kamailio must read the key, whoever we are.
        let key = &surroundings.certificate.key;
        hand_over("kamailio", &[&data, key])
    }

    /// Starts it and waits until it listens.
    pub(crate) fn start(&self, block: &Block) -> Result<Process, Failure> {
        let config = self.config_file().display().to_string();
        let data = self.data().display().to_string();
        let mut process = Program::new(&self.peer.name, Path::new("bash"), ACCOUNT, self.log())
            .arguments(&["-c", TOGETHER, "bash", "kamailio"])
            // In the foreground, so that its end is ours to see.
            .arguments(&["-DD", "-E", "-f", &config, "-Y", &data, "-w", &data])
            .arguments(&["-m", "64", "-M", "8"])
            .start()?;
        let ports = [port::SIP, port::SIPS].map(|port| block.at(self.address, port));
        process.await_ports(&ports, START_WITHIN)?;
        Ok(process)
    }

    fn data(&self) -> PathBuf {
        self.directory.join(format!("{}-data", self.peer.name))
    }

    fn database(&self) -> PathBuf {
        self.data().join("kamailio.sqlite")
    }

    fn config_file(&self) -> PathBuf {
        self.file("cfg")
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.directory.join(format!("{}.{extension}", self.peer.name))
    }

    /// Where it sends what is for others.
    fn out(&self, block: &Block) -> String {
        let (core, edge) =
            (gatehouse::addresses(block, Shape::Two).1, gatehouse::addresses(block, Shape::One).0);
        match self.peer.inside {
            None => format!("sip:{}:{};transport=tls", edge.ip(), port::SIPS),
            Some(Inside::Tls) => format!("sip:{}:{};transport=tls", core.ip(), port::SIPS),
            Some(Inside::Tcp) => format!("sip:{}:{};transport=tcp", core.ip(), port::SIP),
        }
    }

    fn config(&self, block: &Block) -> String {
        let (edge, _) = gatehouse::addresses(block, Shape::One);
        CONFIG
            .replace("@DOMAIN@", &self.peer.domain)
            .replace("@ADDRESS@", &block.host(self.address).to_string())
            .replace("@SIP@", &port::SIP.to_string())
            .replace("@SIPS@", &port::SIPS.to_string())
            .replace("@EDGE@", &edge.ip().to_string())
            .replace("@OUT@", &self.out(block))
            .replace("@SERVER@", &self.peer.sip_server())
            .replace("@MODULES@", MODULES)
            .replace("@DATA@", &self.data().display().to_string())
            .replace("@DATABASE@", &self.database().display().to_string())
            .replace("@TLS@", &self.file("tls.cfg").display().to_string())
    }
}

fn tls(surroundings: &Surroundings<'_>) -> String {
    let files = surroundings.certificate;
    let (key, certificate) = (files.key.display(), files.certificate.display());
    let trust = surroundings.trust.display();
    let side = |name: &str| {
        format!(
            "[{name}:default]\nmethod = TLSv1.2+\nverify_certificate = yes\n\
             require_certificate = yes\nprivate_key = {key}\ncertificate = {certificate}\n\
             ca_list = {trust}\n"
        )
    };
    side("server") + &side("client")
}

const CONFIG: &str = r##"#!KAMAILIO
debug=2
log_stderror=yes
fork=yes
children=1
tcp_children=2
disable_tcp=no
enable_tls=yes
auto_aliases=no
alias="@DOMAIN@"
alias="@SERVER@"
listen=tcp:@ADDRESS@:@SIP@
listen=tls:@ADDRESS@:@SIPS@
tcp_connection_lifetime=3605
tcp_connect_timeout=5
tcp_send_timeout=5
tcp_keepalive=yes
tcp_crlf_ping=yes
# Who is trusted by address must come from it.
tcp_source_ipv4=@ADDRESS@
# An alias would let a peer without TLS take over what is to go out by TLS.
tcp_accept_aliases=no

mpath="@MODULES@"
loadmodule "jsonrpcs.so"
loadmodule "kex.so"
loadmodule "corex.so"
loadmodule "tm.so"
loadmodule "tmx.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xlog.so"
loadmodule "sanity.so"
loadmodule "tls.so"
loadmodule "db_sqlite.so"
loadmodule "presence.so"
loadmodule "presence_xml.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"

modparam("jsonrpcs", "transport", 4)
modparam("jsonrpcs", "dgram_socket", "@DATA@/rpc")
modparam("tls", "config", "@TLS@")
modparam("presence", "db_url", "sqlite:///@DATABASE@")
modparam("presence", "server_address", "sip:@DOMAIN@:@SIPS@;transport=tls")
modparam("presence", "subs_db_mode", 0)
modparam("presence", "min_expires", 10)
modparam("presence", "max_expires", 7200)
modparam("presence_xml", "db_url", "sqlite:///@DATABASE@")
modparam("presence_xml", "force_active", 1)
modparam("usrloc", "db_mode", 0)
modparam("rr", "enable_full_lr", 1)
modparam("tm", "fr_timer", 5000)
modparam("tm", "fr_inv_timer", 30000)

request_route {
    if (!mf_process_maxfwd_header("10")) { sl_send_reply("483","Too Many Hops"); exit; }
    if (!sanity_check("1511", "7")) { xlog("L_NOTICE","MALFORMED from $si:$sp\n"); exit; }
    xlog("L_NOTICE","TAKES $rm $ru from=$fu to=$tu $proto ua=$ua\n");

    # Who comes over TLS must have the domain it speaks for in its certificate.
    if ($proto == "tls" && $fd != "@DOMAIN@"
        && $tls_peer_subject_cn != $fd && $tls_peer_san_hostname != $fd
        && $tls_peer_san_hostname != "sip." + $fd) {
        xlog("L_NOTICE","DISBELIEVES $fd, whose certificate says $tls_peer_san_hostname\n");
        sl_send_reply("403","Domain not in peer certificate");
        exit;
    }
    if (is_method("OPTIONS") && uri==myself) { sl_send_reply("200","OK"); exit; }
    if (has_totag()) {
        if (loose_route() && !(is_method("SUBSCRIBE") && uri==myself)) { route(OUT); exit; }
        if (is_method("ACK")) { if (t_check_trans()) t_relay(); exit; }
    }
    if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
    t_check_trans();
    if (is_method("PUBLISH|SUBSCRIBE") && uri==myself) {
        # What its presence agent sends does not pass here: it finds its way by name, and asks the
        # machine's own name servers unless it knows the name.
        jsonrpc_exec('{"jsonrpc":"2.0","id":1,"method":"dns.add_a","params":["sip.$fd",600,"@EDGE@",0]}');
        xlog("L_INFO","dns.add_a: $jsonrpl(body)\n");
        if (!t_newtran()) { sl_reply_error(); exit; }
        if (is_method("PUBLISH")) handle_publish(); else handle_subscribe();
        exit;
    }
    if (is_method("REGISTER")) { save("location"); exit; }
    if (is_method("INVITE|SUBSCRIBE")) record_route();
    if (uri==myself) {
        if ($rU =~ "^reject") { sl_send_reply("403","Forbidden"); exit; }
        if ($rU =~ "^busy")   { sl_send_reply("486","Busy Here"); exit; }
        if ($rU =~ "^gone")   { sl_send_reply("480","Temporarily Unavailable"); exit; }
        if ($rU =~ "^mute")   { t_newtran(); exit; }
        if ($rU =~ "^filtered") {
            append_to_reply("Warning: 309 @DOMAIN@ \"Message contents not allowed by policy\"\r\n");
            sl_send_reply("606","Not Acceptable");
            exit;
        }
        if (lookup("location")) { t_relay(); exit; }
        if (is_method("MESSAGE")) {
            xlog("L_NOTICE","KEEPS for $rU: $rb\n");
            sl_send_reply("200","OK");
            exit;
        }
        sl_send_reply("404","Not Found");
        exit;
    }
    route(OUT);
}

# Another organisation's: to our edge over TLS; a server of the inside: to our core. A phone's, in a dialog: where it says.
route[OUT] {
    if ($rd =~ "[.]example$" && $rd != "@DOMAIN@" && $rd != "@SERVER@") {
        $du = "@OUT@";
    }
    if (!t_relay()) sl_reply_error();
}

onreply_route {
    xlog("L_NOTICE","HEARS $rs $rr to $rm\n");
}
"##;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_to_fill_in() {
        let block = Block::claim(249, Shape::One).unwrap();
        let peer: Peer =
            toml::from_str("name = 'them'\nkind = 'kamailio'\ndomain = 'them.example'").unwrap();
        let config = Kamailio::new(peer, 4, "/nowhere".into()).config(&block);
        assert!(!config.contains('@'), "{config}");
        assert!(config.contains("alias=\"sip.them.example\""));
    }
}
