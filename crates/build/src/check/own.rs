//! Our own checks: what makes images large, builds slow, or stops take ten seconds.

use crate::check::Findings;
use crate::check::rule::{
    ADD_INSTEAD_OF_COPY, APT_LISTS_KEPT, COPY_BEFORE_INSTALL, OWNERSHIP_DOUBLES_LAYER,
    SECRET_IN_CONTEXT, SHELL_FORM_ENTRYPOINT, UNPINNED_BASE,
};
use crate::language::instruction::{Command, CommandLine, Copy, Instruction, Stage};

/// What installs the dependencies of a project that lists them in a file of its own.
const INSTALLS: [&str; 11] = [
    "npm ci",
    "npm install",
    "npm i ",
    "yarn install",
    "pnpm install",
    "pip install",
    "pip3 install",
    "bundle install",
    "composer install",
    "go mod download",
    "poetry install",
];
/// Names and endings of files that are secrets more often than not.
const SECRETS: [&str; 10] = [
    ".env",
    "id_rsa",
    "id_ed25519",
    "id_ecdsa",
    ".npmrc",
    ".pypirc",
    ".netrc",
    ".pem",
    ".p12",
    ".git-credentials",
];
const ARCHIVES: [&str; 8] =
    [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz", ".tar.zst", ".tbz2"];

/// Adds what is found in a stage.
pub(crate) fn check_stage(stage: &Stage, findings: &mut Findings) {
    let mut copied_all: Option<&Instruction> = None;
    let mut copied: Vec<&str> = Vec::new();
    for instruction in &stage.instructions {
        let (own, span) = (instruction.check.as_ref(), instruction.span);
        match &instruction.command {
            Command::Entrypoint(CommandLine::Shell(line)) if !line.is_empty() => {
                let message = "ENTRYPOINT in shell form does not get the signal that stops the \
                               container: write it as a JSON array";
                findings.add(own, &SHELL_FORM_ENTRYPOINT, span, message.to_owned());
            }
            Command::Copy(copy) | Command::Add(copy) => {
                let is_add = matches!(instruction.command, Command::Add(_));
                check_copy(instruction, copy, is_add, findings);
                if copy.from.is_none() && copy.sources.iter().any(|path| is_all(path)) {
                    copied_all.get_or_insert(instruction);
                }
                copied.push(copy.destination.trim_end_matches('/'));
            }
            Command::Run(run) => {
                let CommandLine::Shell(line) = &run.line else { continue };
                check_run(instruction, line, run.mounts.is_empty(), &copied, findings);
                if let Some(copy) = copied_all
                    && INSTALLS.iter().any(|install| line.contains(install))
                {
                    let message = "All files are copied before dependencies are installed, which \
                                   every change of a file repeats: copy their list first";
                    findings.add(
                        copy.check.as_ref(),
                        &COPY_BEFORE_INSTALL,
                        copy.span,
                        message.to_owned(),
                    );
                    copied_all = None;
                }
            }
            _ => {}
        }
    }
}

fn is_all(path: &str) -> bool {
    matches!(path, "." | "./" | "/" | "./." | "*")
}

fn check_copy(instruction: &Instruction, copy: &Copy, is_add: bool, findings: &mut Findings) {
    let (own, span) = (instruction.check.as_ref(), instruction.span);
    let needs_add = |path: &String| {
        path.contains("://")
            || path.contains('$')
            || path.starts_with("git@")
            || ARCHIVES.iter().any(|ending| path.ends_with(ending))
    };
    if is_add && !copy.sources.is_empty() && !copy.sources.iter().any(needs_add) {
        let message = "ADD fetches and unpacks, of which nothing is needed here: use COPY";
        findings.add(own, &ADD_INSTEAD_OF_COPY, span, message.to_owned());
    }
    for path in &copy.sources {
        let name = path.rsplit('/').next().unwrap_or(path);
        let is_secret = SECRETS.iter().any(|secret| match secret.strip_prefix('.') {
            Some("pem" | "p12") => name.ends_with(secret),
            _ => name == *secret,
        });
        if copy.from.is_none() && is_secret {
            let message =
                format!("{path:?} looks like a secret: mount it with RUN --mount=type=secret");
            findings.add(own, &SECRET_IN_CONTEXT, span, message);
        }
    }
}

fn check_run(
    instruction: &Instruction,
    line: &str,
    has_no_mounts: bool,
    copied: &[&str],
    findings: &mut Findings,
) {
    let (own, span) = (instruction.check.as_ref(), instruction.span);
    let recursive = |tool: &str| {
        ["-R ", "--recursive "].iter().any(|flag| line.contains(&format!("{tool} {flag}")))
    };
    let names = |path: &&str| path.len() > 1 && line.contains(*path);
    if let Some(path) = copied.iter().find(|path| names(path))
        && (recursive("chown") || recursive("chmod"))
    {
        let message = format!(
            "Files in {path:?} are stored twice by this: use --chown or --chmod where they are copied"
        );
        findings.add(own, &OWNERSHIP_DOUBLES_LAYER, span, message);
    }
    let updates = line.contains("apt-get update") || line.contains("apt update");
    if updates && has_no_mounts && !line.contains("/var/lib/apt/lists") {
        let message =
            "apt's lists of packages stay in the layer: end with rm -rf /var/lib/apt/lists/*";
        findings.add(own, &APT_LISTS_KEPT, span, message.to_owned());
    }
}

/// Adds a finding for a base that may be another one tomorrow.
pub(crate) fn check_base(stage: &Stage, reference: &str, findings: &mut Findings) {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    let is_pinned = reference.contains('@') || name.contains(':') && !name.ends_with(":latest");
    if reference == "scratch" || is_pinned {
        return;
    }
    let message = format!("{reference:?} names no version: pin a tag or a digest");
    findings.add(stage.from.check.as_ref(), &UNPINNED_BASE, stage.base_span, message);
}
