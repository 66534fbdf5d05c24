use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::clock::poll;
use crate::failure::Failure;

const CONNECT_WITHIN: Duration = Duration::from_millis(500);

/// Whose rights a process has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Account {
    /// Ours.
    Own,
    /// The daemon's own account if we are root, else ours.
    Daemon(&'static str),
}

/// A program to start, and to start again after it was killed.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    name: String,
    arguments: Vec<String>,
    account: Account,
    log: PathBuf,
}

/// A running program. It dies with this value, and with the testbed.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Program {
    /// A program whose output is appended to `log`.
    pub(crate) fn new(name: &str, path: &Path, account: Account, log: PathBuf) -> Self {
        let arguments = vec![path.display().to_string()];
        Self { name: name.to_owned(), arguments, account, log }
    }

    /// Adds arguments.
    pub(crate) fn arguments(mut self, more: &[impl AsRef<str>]) -> Self {
        self.arguments.extend(more.iter().map(|one| one.as_ref().to_owned()));
        self
    }

    /// Starts it with its input and output as `io` sets them.
    pub(crate) fn start(&self) -> Result<Process, Failure> {
        let log = self.open_log()?;
        let errors = log.try_clone().map_err(Failure::io("open", &self.log))?;
        self.spawn(self.command().stdin(Stdio::null()).stdout(log).stderr(errors))
    }

    /// Starts it with its input and output in our hands and its errors in the log.
    pub(crate) fn start_piped(&self) -> Result<Process, Failure> {
        let errors = self.open_log()?;
        self.spawn(self.command().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors))
    }

    fn open_log(&self) -> Result<File, Failure> {
        let open = OpenOptions::new().create(true).append(true).open(&self.log);
        open.map_err(Failure::io("open", &self.log))
    }

    fn command(&self) -> Command {
        let mut command = guarded(self.account);
        command.args(&self.arguments);
        command
    }

    fn spawn(&self, command: &mut Command) -> Result<Process, Failure> {
        let child = command
            .spawn()
            .map_err(|error| Failure::world(format!("cannot start {}: {error}", self.name)))?;
        Ok(Process { child, name: self.name.clone(), log: self.log.clone() })
    }
}

/// The start of a command line whose process dies with the thread that starts it. Whatever ends the
/// testbed, even `kill -9`, no peer is left behind.
fn guarded(account: Account) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Account::Daemon(name) = account
        && is_root()
    {
        command.args([&format!("--reuid={name}"), &format!("--regid={name}"), "--clear-groups"]);
    }
    command.arg("--");
    command
}

/// Whether we may become somebody else.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Gives files to a daemon's account, if we are somebody else.
pub(crate) fn hand_over(account: &str, paths: &[&Path]) -> Result<(), Failure> {
    if !is_root() {
        return Ok(());
    }
    let done = Command::new("chown").args(["-R", &format!("{account}:")]).args(paths).status();
    match done {
        Ok(status) if status.success() => Ok(()),
        _ => Err(Failure::world(format!("cannot give files to the account `{account}`"))),
    }
}

/// Runs a program to its end, as `account`; returns its status and all it said.
pub(crate) fn run_to_end(
    account: Account,
    program: &Path,
    arguments: &[impl AsRef<OsStr>],
    input: &str,
) -> Result<(ExitStatus, String), Failure> {
    use std::io::Write;
    let failed = |error| Failure::world(format!("cannot run {}: {error}", program.display()));
    let mut child = guarded(account)
        .args(["timeout", "60"])
        .arg(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that reads nothing may be gone by now; what it said tells more than this error.
        let _gone = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status, said))
}

impl Process {
    /// The child, for its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until it listens on all of `addresses`.
    pub(crate) fn await_ports(
        &mut self,
        addresses: &[SocketAddr],
        within: Duration,
    ) -> Result<(), Failure> {
        for address in addresses {
            let outcome = poll(within, || match self.child.try_wait() {
                Ok(None) => {
                    let open = TcpStream::connect_timeout(address, CONNECT_WITHIN).is_ok();
                    open.then_some(Ok(()))
                }
                Ok(Some(status)) => Some(Err(format!("ended with {status}"))),
                Err(error) => Some(Err(error.to_string())),
            });
            let why = match outcome {
                Some(Ok(())) => continue,
                Some(Err(why)) => why,
                None => format!("does not listen on {address} after {within:?}"),
            };
            return Err(Failure::world(format!("{} {why}; see {}", self.name, self.log.display())));
        }
        Ok(())
    }

    /// How it ended, if it has, in words.
    pub(crate) fn death(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(format!("{} ended with {status}; see {}", self.name, self.log.display()))
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        // Both fail only if it is dead already, which is what we want.
        let _dead = self.child.kill();
        let _reaped = self.child.wait();
    }

    /// Sends it a signal: it is frozen by `STOP`, goes on by `CONT`.
    pub(crate) fn signal(&self, signal: &str) -> Result<(), Failure> {
        let asked = Command::new("sh")
            .args(["-c", "kill -\"$0\" \"$1\"", signal])
            .arg(self.child.id().to_string())
            .status()
            .map_err(|error| Failure::world(format!("cannot signal {}: {error}", self.name)))?;
        if asked.success() {
            return Ok(());
        }
        Err(Failure::world(format!("{} was not running any more", self.name)))
    }

    /// The most memory it ever had in use, in bytes.
    pub(crate) fn memory_peak(&self) -> Result<u64, Failure> {
        let file = PathBuf::from(format!("/proc/{}/status", self.child.id()));
        let status = std::fs::read_to_string(&file).map_err(Failure::io("read", &file))?;
        let peak = status.lines().find_map(|line| {
            line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
        peak.map(|kibibytes| kibibytes * 1024)
            .ok_or_else(|| Failure::world(format!("{} tells no VmHWM", file.display())))
    }

    /// Asks it to stop, and waits for its status; kills it if it does not.
    pub(crate) fn stop(&mut self, within: Duration) -> Result<ExitStatus, Failure> {
        self.signal("TERM")?;
        let ended = poll(within, || self.child.try_wait().ok().flatten());
        ended.ok_or_else(|| {
            self.kill();
            Failure::world(format!("{} did not stop within {within:?} of SIGTERM", self.name))
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_says_what_it_said_and_how_it_ended() {
        let shell = Path::new("sh");
        let (status, said) =
            run_to_end(Account::Own, shell, &["-c", "read x; echo got $x; exit 3"], "it\n")
                .unwrap();
        assert_eq!((status.code(), said.as_str()), (Some(3), "got it\n"));
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let log = std::env::temp_dir().join(format!("testbed-{}.log", std::process::id()));
        let program = Program::new("sleep", Path::new("sleep"), Account::Own, log.clone());
        let mut process = program.arguments(&["60"]).start().unwrap();
        let own = format!("/proc/{}", process.child().id());
        assert!(Path::new(&own).exists());
        drop(process);
        assert!(!Path::new(&own).exists());
        std::fs::remove_file(log).unwrap();
    }
}
