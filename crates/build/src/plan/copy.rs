//! COPY and ADD.

use crate::check::rule::COPY_IGNORED_FILE;
use crate::error::{Error, Result};
use crate::git::{GitSource, is_commit};
use crate::graph::{Chmod, CopyOp, CopySource, From, Op};
use crate::ignore::clean;
use crate::language::expand::Lexer;
use crate::language::instruction::{Copy, Instruction};
use crate::plan::stage::Place;
use crate::plan::state::State;
use crate::plan::{Bases, Planner};

impl<B: Bases> Planner<'_, B> {
    pub(super) fn copy(
        &mut self,
        state: &mut State,
        place: &mut Place,
        instruction: &Instruction,
        copy: &Copy,
        is_add: bool,
    ) -> std::result::Result<(), B::Error> {
        let from = match &copy.from {
            Some(from) => self.source(place, from, copy.from_span, true)?,
            None => From::Context(None),
        };
        let planned = self.plan_copy(state, instruction, copy, &from, is_add);
        let (op, said) = planned.map_err(|error| error.or_at(instruction.span))?;
        let step = self.step(state, place, instruction, Op::Copy(op), None);
        state.record(format!("{said} # buildkit"), Some(step));
        Ok(())
    }

    fn plan_copy(
        &mut self,
        state: &State,
        instruction: &Instruction,
        copy: &Copy,
        from: &From,
        is_add: bool,
    ) -> Result<(CopyOp, String)> {
        let chown = self.option(state, instruction, copy.chown.as_ref())?;
        let chmod = self.option(state, instruction, copy.chmod.as_ref())?;
        let checksum = self.option(state, instruction, copy.checksum.as_ref())?;
        let mut said = if is_add { "ADD" } else { "COPY" }.to_owned();
        if copy.parents {
            said += " --parents";
        }
        if let Some(chown) = &chown {
            said = format!("{said} --chown={chown}");
        }
        if let Some(text) = &chmod {
            said = format!("{said} --chmod={text}");
        }
        let (mut sources, paths) =
            self.sources(state, instruction, copy, from, checksum.as_ref(), is_add)?;
        paths.iter().for_each(|path| said = format!("{said} {path}"));
        for file in &copy.inline {
            said = format!("{said} <<{}", file.name);
            let lexer = Lexer { ignores_quotes: true, ..Lexer::new('\\') };
            let content = match file.expand {
                true => self.expand(state, instruction, &file.text(), lexer)?,
                false => file.text(),
            };
            sources.push(CopySource::Inline { name: file.name.clone(), content });
        }
        let destination = self.word(state, instruction, &copy.destination)?;
        said = format!("{said} {destination}");
        let op = CopyOp {
            sources,
            destination: state.absolute(&destination),
            chown,
            chmod: chmod.as_deref().map(parse_chmod).transpose()?,
            exclude: copy.exclude.clone(),
            link: copy.link,
        };
        if op.sources.len() > 1 && !op.destination.ends_with('/') {
            let message = format!(
                "When using {} with more than one source file, the destination must be a directory and \
                 end with a /",
                if is_add { "ADD" } else { "COPY" }
            );
            return Err(Error::new(message));
        }
        Ok((op, said))
    }

    /// Where files come from but for those that stand in the Dockerfile, and their paths as they are
    /// written, with their variables.
    fn sources(
        &mut self,
        state: &State,
        instruction: &Instruction,
        copy: &Copy,
        from: &From,
        checksum: Option<&String>,
        is_add: bool,
    ) -> Result<(Vec<CopySource>, Vec<String>)> {
        let (mut sources, mut paths) = (Vec::new(), Vec::new());
        for path in &copy.sources {
            let path = self.word(state, instruction, path)?;
            let fetched = if is_add { remote(&path, copy, checksum)? } else { None };
            sources.push(match fetched {
                Some(fetched) => fetched,
                None if !is_add && is_url(&path) => {
                    return Err(Error::new("source can't be a URL for COPY").hint("ADD takes one"));
                }
                None => {
                    if *from == From::Context(None) {
                        self.check_ignored(instruction, &path, is_add);
                    }
                    local(from, &path, copy.parents, copy.unpack.unwrap_or(is_add))
                }
            });
            paths.push(path);
        }
        let is_fetched =
            |source: &CopySource| matches!(source, CopySource::Url { .. } | CopySource::Git(_));
        match (checksum, &sources[..]) {
            (Some(_), [source]) if !is_fetched(source) => {
                Err(Error::new("checksum requires HTTP(S) or Git sources"))
            }
            (Some(_), [] | [_, _, ..]) => {
                Err(Error::new("checksum can't be specified for multiple sources"))
            }
            _ => Ok((sources, paths)),
        }
    }

    fn option(
        &mut self,
        state: &State,
        instruction: &Instruction,
        value: Option<&String>,
    ) -> Result<Option<String>> {
        let value = value.map(|value| self.word(state, instruction, value)).transpose()?;
        Ok(value.filter(|value| !value.is_empty()))
    }

    fn check_ignored(&mut self, instruction: &Instruction, path: &str, is_add: bool) {
        let ignore = &self.request.ignore;
        if ignore.is_empty() || ignore.has_exceptions() {
            return;
        }
        let cleaned = clean(path);
        let is_root = matches!(cleaned.as_str(), "." | "/");
        let path = cleaned.trim_start_matches('/');
        if (!is_root || ignore.ignores_root()) && ignore.matches(path) {
            let what = if is_add { "Add" } else { "Copy" };
            let message =
                format!("Attempting to {what} file {cleaned:?} that is excluded by .dockerignore");
            let own = instruction.check.as_ref();
            self.findings.add(own, &COPY_IGNORED_FILE, instruction.span, message);
        }
    }
}

fn is_url(path: &str) -> bool {
    path.starts_with("http://") || path.starts_with("https://")
}

/// What ADD fetches, if that is what its source is.
fn remote(path: &str, add: &Copy, checksum: Option<&String>) -> Result<Option<CopySource>> {
    // What begins so may as well be a file of the context.
    let repository = GitSource::parse(path).filter(|_| !path.starts_with("github.com/"));
    if let Some(source) = repository.transpose()? {
        let keeps_git_dir = add.keep_git_dir.or(source.keeps_git_dir);
        let wanted = checksum.map(|checksum| checksum.to_lowercase());
        if let Some(wanted) = wanted.as_ref().filter(|wanted| !is_commit(wanted)) {
            let what = format!("invalid checksum {wanted:?} of a Git source");
            return Err(Error::new(format!("{what}, expected hex commit hash")));
        }
        if let (Some(wanted), Some(said)) = (&wanted, &source.checksum)
            && wanted != said
        {
            return Err(Error::new(format!("checksum mismatch {wanted:?} != {said:?}")));
        }
        let checksum = wanted.or(source.checksum.clone());
        return Ok(Some(CopySource::Git(GitSource { keeps_git_dir, checksum, ..source })));
    }
    if add.keep_git_dir.is_some() {
        return Err(Error::new("--keep-git-dir requires a Git source"));
    }
    if !is_url(path) {
        return Ok(None);
    }
    if let Some(checksum) = checksum
        && checksum.parse::<oci::Digest>().is_err()
    {
        return Err(Error::new(format!("invalid checksum digest format: {checksum}")));
    }
    let path_part = path.split(['?', '#']).next().unwrap_or(path);
    let behind_host = path_part.splitn(4, '/').nth(3).unwrap_or_default();
    let name = match behind_host.trim_end_matches('/').rsplit('/').next() {
        Some("") | None => "__unnamed__",
        Some(name) => name,
    };
    Ok(Some(CopySource::Url {
        url: path.to_owned(),
        name: name.to_owned(),
        checksum: checksum.cloned(),
        unpack: add.unpack.unwrap_or(false),
    }))
}

fn local(from: &From, path: &str, parents: bool, unpack: bool) -> CopySource {
    // Nothing climbs out of where it is looked for.
    let rooted = |path: &str| clean(&format!("/{path}"));
    let (path, parents) = match (parents, path.split_once("/./")) {
        (false, _) => (rooted(path), None),
        (true, Some((pivot, below))) => (rooted(pivot), Some(rooted(below))),
        (true, None) => ("/".to_owned(), Some(rooted(path))),
    };
    let parents = parents.map(|below| below.trim_start_matches('/').to_owned());
    CopySource::Path { from: from.clone(), path, parents, unpack }
}

fn parse_chmod(text: &str) -> Result<Chmod> {
    let invalid = || {
        Error::new(format!(
            "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
        ))
    };
    if text.chars().all(|c| c.is_ascii_digit()) {
        let bits = u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o7777);
        return bits.map(Chmod::Octal).ok_or_else(invalid);
    }
    let is_clause = |clause: &str| {
        let rest = clause.trim_start_matches(['u', 'g', 'o', 'a']);
        let mut rest = rest.chars();
        rest.next().is_some_and(|c| matches!(c, '+' | '-' | '='))
            && rest.all(|c| "rwxXstugo+-=".contains(c))
    };
    match text.split(',').all(is_clause) {
        true => Ok(Chmod::Symbolic(text.to_owned())),
        false => Err(invalid()),
    }
}
