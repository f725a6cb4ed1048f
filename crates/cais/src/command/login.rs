//! `cais login`

use std::io::{IsTerminal, Read, Write};

use engine::{Error, Kind, Result};
use registry::Kept;

use crate::progress::note;
use crate::session::Session;

/// Longer is no password.
const PASSWORD_SIZE_MAX: u64 = 64 << 10;

/// What `login` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Password or Personal Access Token (PAT)
    #[arg(short, long)]
    password: Option<String>,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Username
    #[arg(short, long)]
    username: Option<String>,
    /// The registry; Docker Hub if none is named
    server: Option<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    if args.password_stdin && args.password.is_some() {
        let text = "conflicting options: cannot specify both --password and --password-stdin";
        return Err(Error::invalid(text));
    }
    if args.password_stdin && args.username.as_deref().unwrap_or_default().is_empty() {
        return Err(Error::invalid("the --password-stdin option requires --username to be set"));
    }
    if args.password.is_some() {
        note("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    let registry = registry::registry_name(args.server.as_deref().unwrap_or_default());
    let config = session.registry();
    if args.username.is_none()
        && args.password.is_none()
        && let Some((user, password)) = engine::logged_in(&registry)?
    {
        session.say(format!(
            "Authenticating with existing credentials... [Username: {user}]\n\n \
             Info -> To login with a different account, run 'cais logout' followed by \
             'cais login'\n\n"
        ))?;
        match engine::login(config, &registry, &user, &password) {
            Ok(_) => return session.say("Login Succeeded").map(|()| 0),
            Err(error) => note(&format!("Login did not succeed, error: {error}")),
        }
    }
    let (user, password) = credentials(args)?;
    let kept = engine::login(config, &registry, &user, &password)?;
    if let Kept::File(path) = kept {
        let path = path.display();
        note(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{path}'.\n\
             Configure a credential helper to remove this warning. See\n\
             https://docs.docker.com/go/credential-store/\n"
        ));
    }
    session.say("Login Succeeded").map(|()| 0)
}

/// What was given, and what the user types.
fn credentials(args: &Args) -> Result<(String, String)> {
    let failed = |error| Error::caused(Kind::Invalid, "read credentials", error);
    let stdin = std::io::stdin();
    let lacking = args.username.is_none() || args.password.is_none() && !args.password_stdin;
    if lacking && !stdin.is_terminal() {
        return Err(Error::invalid("Cannot perform an interactive login from a non TTY device")
            .hint("give --username, and the password by --password-stdin"));
    }
    let user = match &args.username {
        Some(user) => user.clone(),
        None => {
            ask("Username: ")?;
            let mut line = String::new();
            stdin.read_line(&mut line).map_err(failed)?;
            line.trim().to_owned()
        }
    };
    if user.is_empty() {
        return Err(Error::invalid("Error: Non-null Username Required"));
    }
    let password = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => {
            let mut text = String::new();
            stdin.take(PASSWORD_SIZE_MAX).read_to_string(&mut text).map_err(failed)?;
            let text = text.strip_suffix('\n').unwrap_or(&text);
            text.strip_suffix('\r').unwrap_or(text).to_owned()
        }
        None => {
            let ask_for_it = || ask("Password: ").map_err(std::io::Error::other);
            let typed = engine::read_secret(ask_for_it).map_err(failed)?;
            ask("\n")?;
            typed.ok_or_else(|| Error::invalid("login was broken off"))?
        }
    };
    if password.is_empty() {
        return Err(Error::invalid("Error: Password Required"));
    }
    Ok((user, password))
}

fn ask(text: &str) -> Result<()> {
    let mut out = std::io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Error::caused(Kind::Internal, "write to the terminal", error))
}
