//! Checks of a file as it stands, whatever its variables are.

use std::collections::HashSet;

use crate::check::rule::{
    CONSISTENT_INSTRUCTION_CASING, DUPLICATE_STAGE_NAME, FROM_AS_CASING,
    INVALID_DEFINITION_DESCRIPTION, JSON_ARGS_RECOMMENDED, LEGACY_KEY_VALUE_FORMAT,
    MAINTAINER_DEPRECATED, MULTIPLE_INSTRUCTIONS_DISALLOWED, NO_EMPTY_CONTINUATION,
    RESERVED_STAGE_NAME, SECRETS_USED_IN_ARG_OR_ENV, STAGE_NAME_CASING,
};
use crate::check::{Findings, own};
use crate::language::instruction::{Command, CommandLine, Dockerfile, Instruction, Stage};

const RESERVED: [&str; 2] = ["context", "scratch"];

/// Adds what is found in the whole file.
pub(crate) fn check_file(file: &Dockerfile, findings: &mut Findings) {
    for instruction in all(file) {
        check_instruction(instruction, findings);
    }
    casing(file, findings);
    let mut names = HashSet::new();
    for stage in &file.stages {
        check_stage(stage, &mut names, findings);
        once(stage, findings);
        own::check_stage(stage, findings);
    }
}

fn all(file: &Dockerfile) -> impl Iterator<Item = &Instruction> {
    let stages = file.stages.iter();
    let stages = stages.flat_map(|stage| std::iter::once(&stage.from).chain(&stage.instructions));
    file.global_args.iter().chain(stages)
}

fn check_instruction(instruction: &Instruction, findings: &mut Findings) {
    let (own, span) = (instruction.check.as_ref(), instruction.span);
    let name = instruction.keyword.to_uppercase();
    if let Some(empty) = instruction.empty {
        let message = "Empty continuation line".to_owned();
        findings.add(own, &NO_EMPTY_CONTINUATION, empty, message);
    }
    match &instruction.command {
        Command::Maintainer(_) => {
            let message = "Maintainer instruction is deprecated in favor of using label";
            findings.add(own, &MAINTAINER_DEPRECATED, span, message.to_owned());
        }
        Command::Env(pairs) | Command::Label(pairs) => {
            for pair in pairs {
                if pair.is_legacy {
                    let message = format!(
                        "\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"
                    );
                    findings.add(own, &LEGACY_KEY_VALUE_FORMAT, span, message);
                }
                if matches!(instruction.command, Command::Env(_)) {
                    secret(instruction, &name, &pair.name, findings);
                }
            }
        }
        Command::Arg(definitions) => {
            for definition in definitions {
                secret(instruction, &name, &definition.name, findings);
            }
            let names: Vec<&str> = definitions.iter().map(|d| d.name.as_str()).collect();
            describes(instruction, "ARG", &names, findings);
        }
        _ => {}
    }
}

fn secret(instruction: &Instruction, name: &str, variable: &str, findings: &mut Findings) {
    if !looks_secret(variable) {
        return;
    }
    let message =
        format!("Do not use ARG or ENV instructions for sensitive data ({name} {variable:?})");
    findings.add(
        instruction.check.as_ref(),
        &SECRETS_USED_IN_ARG_OR_ENV,
        instruction.span,
        message,
    );
}

/// Whether a word of a name says that it is secret, and none that it is not.
pub(crate) fn looks_secret(name: &str) -> bool {
    const SECRET: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    const ALLOWED: [&str; 3] = ["public", "file", "version"];
    let name = name.to_lowercase();
    let has = |words: &[&str]| name.split('_').any(|part| words.contains(&part));
    has(&SECRET) && !has(&ALLOWED)
}

/// Whether the comment before a definition describes it.
fn describes(instruction: &Instruction, kind: &str, names: &[&str], findings: &mut Findings) {
    let (Some(comment), Some(first)) = (instruction.comments.last(), names.first()) else { return };
    let described = comment.split(' ').next().unwrap_or_default();
    if names.contains(&described) {
        return;
    }
    let example = if names.len() > 1 { "<arg_key>" } else { first };
    let message =
        format!("Comment for {kind} should follow the format: `# {example} <description>`");
    let rule = &INVALID_DEFINITION_DESCRIPTION;
    findings.add(instruction.check.as_ref(), rule, instruction.span, message);
}

/// Either all instructions in upper case or all in lower case.
fn casing(file: &Dockerfile, findings: &mut Findings) {
    let stages = file.stages.iter();
    let instructions: Vec<&Instruction> =
        stages.flat_map(|stage| std::iter::once(&stage.from).chain(&stage.instructions)).collect();
    let count = |is: fn(&str) -> bool| instructions.iter().filter(|i| is(&i.keyword)).count();
    let is_lower = |word: &str| word == word.to_lowercase();
    let is_upper = |word: &str| word == word.to_uppercase();
    let majority_is_lower = count(is_lower) > count(is_upper);
    for instruction in &instructions {
        let keyword = &instruction.keyword;
        let (fits, right) = match majority_is_lower {
            true => (is_lower(keyword), "lowercase"),
            false => (is_upper(keyword), "uppercase"),
        };
        if !fits {
            let message = format!(
                "Command '{keyword}' should match the case of the command majority ({right})"
            );
            let rule = &CONSISTENT_INSTRUCTION_CASING;
            findings.add(instruction.check.as_ref(), rule, instruction.span, message);
        }
    }
}

fn check_stage<'a>(stage: &'a Stage, names: &mut HashSet<&'a str>, findings: &mut Findings) {
    let (own, span) = (stage.from.check.as_ref(), stage.from.span);
    if stage.name.is_empty() {
        return;
    }
    let words: Vec<&str> = stage.from.text.split_whitespace().collect();
    let (written, r#as) = (words[words.len() - 1], words[words.len() - 2]);
    if written != stage.name {
        let message = format!("Stage name '{written}' should be lowercase");
        findings.add(own, &STAGE_NAME_CASING, span, message);
    }
    let from = &stage.from.keyword;
    let fits = (from != &from.to_lowercase() || r#as == r#as.to_lowercase())
        && (from != &from.to_uppercase() || r#as == r#as.to_uppercase());
    if !fits {
        let message = format!("'{as}' and '{from}' keywords' casing do not match", r#as = r#as);
        findings.add(own, &FROM_AS_CASING, span, message);
    }
    if RESERVED.contains(&stage.name.as_str()) {
        let name = &stage.name;
        let message = format!("Stage name should not use the same name as reserved stage {name:?}");
        findings.add(own, &RESERVED_STAGE_NAME, span, message);
    }
    if !names.insert(&stage.name) {
        let name = &stage.name;
        let message = format!("Duplicate stage name {name:?}, stage names should be unique");
        findings.add(own, &DUPLICATE_STAGE_NAME, span, message);
    }
    describes(&stage.from, "FROM", &[&stage.name], findings);
}

/// Instructions of which only the last counts.
fn once(stage: &Stage, findings: &mut Findings) {
    let kind = |command: &Command| match command {
        Command::Cmd(_) => Some("CMD"),
        Command::Entrypoint(_) => Some("ENTRYPOINT"),
        Command::Healthcheck(_) => Some("HEALTHCHECK"),
        _ => None,
    };
    let mut has_shell = false;
    for (index, instruction) in stage.instructions.iter().enumerate() {
        has_shell |= matches!(instruction.command, Command::Shell(_));
        if let (Command::Cmd(line) | Command::Entrypoint(line), false) =
            (&instruction.command, has_shell)
            && matches!(line, CommandLine::Shell(_))
        {
            let name = instruction.keyword.to_uppercase();
            let message = format!(
                "JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
            );
            let own = instruction.check.as_ref();
            findings.add(own, &JSON_ARGS_RECOMMENDED, instruction.span, message);
        }
        let Some(name) = kind(&instruction.command) else { continue };
        let mut later = stage.instructions[index + 1..].iter();
        let Some(later) = later.find(|later| kind(&later.command) == Some(name)) else { continue };
        let message = format!(
            "Multiple {name} instructions should not be used in the same stage because only the \
             last one will be used"
        );
        let rule = &MULTIPLE_INSTRUCTIONS_DISALLOWED;
        findings.add(later.check.as_ref(), rule, instruction.span, message);
    }
}
