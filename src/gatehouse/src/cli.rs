use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use gatehouse_types::{Domain, Jid};

/// Federation edge gateway with its own presence and IM core.
#[derive(Debug, Parser)]
#[command(name = "gatehouse", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the settings come from. The same for every command, so that all of them speak of the
/// same appliance.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Place {
    /// The settings file [default: gatehouse.toml here, if there is one; else built-in defaults]
    #[arg(long, value_name = "FILE", env = "GATEHOUSE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The directory that holds everything that is kept [default: gatehouse-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// An IM domain of ours; may be repeated [default: ours.example]
    #[arg(long = "domain", value_name = "D")]
    pub(crate) domains: Vec<Domain>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the appliance
    Run(Place),
    /// Write a commented gatehouse.toml that means the same as no file
    Init {
        /// Where to write it
        #[arg(long, default_value = "gatehouse.toml", value_name = "FILE")]
        config: PathBuf,
        /// Replace an existing file
        #[arg(long)]
        force: bool,
    },
    /// Tell every mistake in the settings and the policy at once
    CheckConfig(Place),
    /// Manage the accounts of our domains
    #[command(subcommand)]
    User(UserCommand),
    /// Manage our certificates
    #[command(subcommand)]
    Cert(CertCommand),
    /// Prepare edge and core as two processes
    #[command(subcommand)]
    Trunk(TrunkCommand),
    /// Find out whether federation with a partner would work
    #[command(subcommand)]
    Partner(PartnerCommand),
    /// Say what the policy makes of a partner domain
    Policy {
        /// The partner's domain
        partner: Domain,
        #[command(flatten)]
        place: Place,
    },
    /// Which partners cannot be reached, and why
    #[command(subcommand)]
    Reach(ReachCommand),
    /// Show the live streams of the running appliance, and which partners it cannot reach
    Status {
        #[command(flatten)]
        place: Place,
        /// For machines
        #[arg(long)]
        json: bool,
        /// Show again every two seconds
        #[arg(long, conflicts_with = "json")]
        watch: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add an account; the password is asked for, or read from standard input
    Add {
        /// Such as alice@ours.example
        account: Jid,
        #[command(flatten)]
        place: Place,
    },
    /// List the accounts
    List {
        #[command(flatten)]
        place: Place,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Change a password
    Passwd {
        /// The account
        account: Jid,
        #[command(flatten)]
        place: Place,
    },
    /// Remove an account, its contacts and its waiting messages
    Remove {
        /// The account
        account: Jid,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Show which names each certificate will hold, and why
    Plan {
        #[command(flatten)]
        place: Place,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Issue every missing or outdated certificate from the local authority
    Issue {
        #[command(flatten)]
        place: Place,
        /// Make new keys too
        #[arg(long)]
        new_key: bool,
        /// Also issue RSA certificates, for partners that can check no other
        #[arg(long)]
        rsa: bool,
    },
    /// Write a signing request for another authority
    Csr {
        /// The IM domain
        domain: Domain,
        /// For the RSA certificate beside the first one
        #[arg(long)]
        rsa: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Take a certificate from another authority into use
    Import {
        /// The IM domain
        domain: Domain,
        /// PEM, the domain's certificate first
        #[arg(long, value_name = "FILE")]
        chain: PathBuf,
        /// PEM; leave out if the certificate answers our signing request
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// As the RSA certificate beside the first one; else it replaces the first one
        #[arg(long)]
        rsa: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Print the pin of the key in a certificate, as a policy rule takes it
    Pin {
        /// PEM, such as a partner's; the first certificate in it counts
        file: PathBuf,
    },
    /// Show the certificates in use
    Show {
        #[command(flatten)]
        place: Place,
        /// For machines
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PartnerCommand {
    /// Ask DNS, dial every target, read its certificate, and look at our own side with its eyes.
    /// The exit code is 0 only if federation would work
    Check {
        /// The partner's domain
        partner: Domain,
        /// The domain of ours that asks [default: the first one]
        #[arg(long = "as", value_name = "OURDOMAIN")]
        as_domain: Option<Domain>,
        /// What to try
        #[arg(long, value_enum, default_value = "both")]
        protocol: ProbeProtocol,
        /// For machines
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
}

/// What `partner check` tries.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ProbeProtocol {
    /// XMPP alone
    Xmpp,
    /// SIP alone
    Sip,
    /// Both, at the same time
    Both,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReachCommand {
    /// Show the last attempt for each partner that cannot be reached
    Show {
        /// Only this partner
        partner: Option<Domain>,
        #[command(flatten)]
        place: Place,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Hold nothing against a partner any longer: the next message dials it
    Forget {
        /// The partner's domain
        partner: Domain,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TrunkCommand {
    /// Write the data directory of an edge: run this where the core is, copy the result to the DMZ
    Export {
        /// The directory to write; must not exist yet
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The edge's name on the trunk
        #[arg(long, default_value = "edge")]
        name: Domain,
        #[command(flatten)]
        place: Place,
    },
}
