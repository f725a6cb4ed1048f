//! `cais build`

mod annotation;
mod attest;
mod cache;
mod context;
mod events;
mod lock;
mod named;
mod options;
mod output;
mod secret;
mod ssh;
mod verify;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use build::{Finding, Request};
use engine::{BuildError, BuildOptions, Built, Engine, Error, Kind, Lock, Result};

use oci::{Descriptor, Digest, Platform};

use super::debug_build;
use crate::progress::{To, View, note};
use crate::session::Session;

use annotation::Annotations;
use context::{Input, Remote};
use events::Show;
use named::Named;
pub(crate) use options::Args;
use output::Output;
use ssh::Agents;

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let made = build_all(session, args)?;
    if args.quiet
        && let Made::Image(outcome) = &made
    {
        session.say(outcome.id.to_string())?;
    }
    match made {
        Made::Report(code) => Ok(code),
        Made::Image(_) => Ok(0),
    }
}

/// What a command line comes to.
pub(super) enum Made {
    /// An image, or an index.
    Image(Box<Outcome>),
    /// Words on standard output, and an exit code: of `--check`, or of `--verify`.
    Report(i32),
}

/// Does what a command line asks for.
pub(super) fn build_all(session: &Session, args: &Args) -> Result<Made> {
    args.refuse_unsupported()?;
    let (outputs, platforms) = (Output::parse_all(args)?, args.platforms()?);
    match platforms.len() {
        1 => Annotations::parse(&args.annotation)?.without_index()?,
        _ => outputs.iter().try_for_each(Output::takes_index)?,
    }
    args.refuse_for_several(platforms.len())?;
    if !attest::asked(args)?.is_empty() {
        Output::check_attested(&outputs)?;
    }
    let mut show = Show::new(args)?;
    let engine = session.engine()?;
    let (secrets, agents) = (secret::read(&args.secret)?, Agents::open(engine, &args.ssh)?);
    let remote =
        Remote { secrets: &secrets, agents: &agents, keeps_git_dir: args.keeps_git_dir()? };
    let input = Input::open(engine, args, &remote)?;
    let named = Named::open(engine, &args.build_context, &platforms, &remote)?;
    let epoch_s = args.epoch(&input)?;
    let mut all = Vec::new();
    for (index, platform) in platforms.iter().enumerate() {
        let contexts = named.contexts(index);
        let (ignore, platform) = (input.ignore.clone(), platform.clone());
        let request = args.request(ignore, contexts, platform, epoch_s)?;
        all.push(BuildOptions {
            named_contexts: named.directories.clone(),
            secrets: secrets.clone(),
            ssh: agents.sockets(),
            ticks: show.is_drawn(),
            ..build_options(args, &input, request, epoch_s)?
        });
    }
    if args.only_checks()? {
        return check(session, &input, &all[0]).map(Made::Report);
    }
    let lock = lock::LockFile::of(args, &input)?;
    let locked = lock.as_ref().map(lock::LockFile::read).transpose()?.flatten();
    for options in &mut all {
        options.lock.clone_from(&locked);
    }
    session.relieve()?;
    for id in engine::unsearched_secrets(&secrets) {
        let what = "WARN: it is too short to be looked for in files and in output";
        show.internal(&format!("[internal] secret {id}"), what);
    }
    show.internal(
        &format!("[internal] load build definition from {}", input.dockerfile_name),
        &format!("transferring dockerfile: {}B done", input.dockerfile.len()),
    );
    let built = match &mut all[..] {
        [options] => one(session, args, &mut show, (&input, options, &outputs)),
        all => several(session, args, &mut show, (&input, all, &outputs)),
    };
    let built = built?;
    show.finish();
    show.findings(&built.findings, &input.dockerfile);
    record(args, &built, &all[0])?;
    if let Some(lock) = &lock {
        lock.write(&built.inputs)?;
    }
    match (args.verify, &all[..]) {
        (true, [options]) => verify::run(session, args, &input, options).map(Made::Report),
        _ => Ok(Made::Image(Box::new(built))),
    }
}

/// What came of a build.
pub(super) struct Outcome {
    /// The id of the image, or the digest of an index.
    pub(super) id: Digest,
    descriptor: Descriptor,
    findings: Vec<Finding>,
    inputs: Lock,
}

/// Builds for one platform.
fn one(
    session: &Session,
    args: &Args,
    show: &mut Show,
    (input, options, outputs): (&Input, &BuildOptions, &[Output]),
) -> Result<Outcome> {
    let built = built(session, args, show, (input, options))?;
    show.internal("exporting to image", &exported(&built, options));
    let attest = attest::asked(args)?;
    let attested = match attest.is_empty() {
        true => None,
        false => Some(session.engine()?.attest(&built, options, &attest)?),
    };
    let attested = attested.as_ref();
    outputs.iter().try_for_each(|output| output.write(session, &built.image, options, attested))?;
    export_caches(session, args, show, (&built, options))?;
    let Built { image, findings, inputs, .. } = built;
    Ok(Outcome { id: image.id, descriptor: image.manifest, findings, inputs })
}

/// Brings what steps left to where `--cache-to` says.
fn export_caches(
    session: &Session,
    args: &Args,
    show: &mut Show,
    (built, options): (&Built, &BuildOptions),
) -> Result<()> {
    for target in cache::targets(&args.cache_to)? {
        let what = match session.engine()?.export_cache(built, &options.secrets, &target) {
            Ok(None) => continue,
            Ok(Some(digest)) => format!("writing {digest} done"),
            Err(error) if target.may_fail => format!("ERROR: {error}"),
            Err(error) => return Err(error),
        };
        show.internal("exporting cache", &what);
    }
    Ok(())
}

/// Builds for several platforms, one after the other: what they share is done once. The store has one
/// image by a name, which is the one for this machine.
fn several(
    session: &Session,
    args: &Args,
    show: &mut Show,
    (input, all, outputs): (&Input, &mut [BuildOptions], &[Output]),
) -> Result<Outcome> {
    let host = Platform::host();
    let own = all.iter().position(|options| options.request.platform == host).unwrap_or(0);
    let (tags, mut images, mut findings) = (all[own].tags.clone(), Vec::new(), Vec::new());
    let mut inputs = Lock::default();
    for (index, options) in all.iter_mut().enumerate() {
        let platform = options.request.platform.clone();
        if index != own {
            options.tags.clear();
            options.name = format!("{} for {platform}", options.name);
        }
        let built = built(session, args, show, (input, options))?;
        show.internal(&format!("exporting to image for {platform}"), &exported(&built, options));
        if index == 0 {
            findings = built.findings;
        }
        inputs.extend(built.inputs);
        images.push((platform, built.image));
    }
    let for_registries = outputs.contains(&Output::Push);
    let annotations = Annotations::parse(&args.annotation)?;
    let annotations = (&annotations.index, &annotations.manifest_descriptor);
    let index = session.engine()?.index_of(images, for_registries, annotations)?;
    let Descriptor { digest, .. } = index.descriptor;
    show.internal("exporting index", &format!("exporting manifest list {digest} done"));
    let options = BuildOptions { tags, ..all[own].clone() };
    outputs.iter().try_for_each(|output| output.write_index(session, &index, &options))?;
    Ok(Outcome { id: digest, descriptor: index.descriptor, findings, inputs })
}

/// Builds, or says why not.
fn built(
    session: &Session,
    args: &Args,
    show: &mut Show,
    (input, options): (&Input, &BuildOptions),
) -> Result<Built> {
    let engine = session.engine()?;
    let mut built = build(engine, show, options).map_err(|failed| {
        let is_command = failed.step.is_some();
        let error = explain(show, input, options, failed);
        fail(session, args, &options.name, error, is_command)
    })?;
    let annotations = Annotations::parse(&args.annotation)?.manifest;
    if !annotations.is_empty() {
        built.image = engine.annotate(&built.image, &annotations)?;
    }
    Ok(built)
}

/// Builds, and shows what is pulled until the first step begins.
fn build(
    engine: &Engine,
    show: &mut Show,
    options: &BuildOptions,
) -> std::result::Result<Built, BuildError> {
    let pulls = View::new(To::Stderr, !show.is_shown());
    let has_pulled = AtomicBool::new(false);
    let pulling = |event| {
        has_pulled.store(true, Ordering::Relaxed);
        pulls.show(event);
    };
    let mut pulls_are_shown = true;
    let built = engine.build(options, &pulling, &mut |event| {
        // Nothing is pulled any more.
        if std::mem::take(&mut pulls_are_shown) {
            pulls.finish();
            if has_pulled.load(Ordering::Relaxed) {
                show.go_on_below();
            }
        }
        show.event(&event);
    });
    if pulls_are_shown {
        pulls.finish();
    }
    built
}

/// A build that failed: there may be a shell where it did.
fn fail(session: &Session, args: &Args, name: &str, error: Error, is_command: bool) -> Error {
    let failed = session.engine().and_then(|engine| engine.failed_step(name));
    let Some(failed) = failed.ok().filter(|_| is_command) else { return error };
    if args.shell_on_error && std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        note(&crate::output::printable(&debug_build::describe(&failed)));
        // Why there is no shell matters less than why there is no image.
        let _ = debug_build::enter(session, name, &[]);
        return error;
    }
    match error.hint_text() {
        Some(_) => error,
        None => error.hint("`cais debug build` shows what failed, and --shell opens a shell there"),
    }
}

fn exported(built: &Built, options: &BuildOptions) -> String {
    let mut text = format!("exporting layers done\nwriting image {} done", built.image.id);
    for tag in &options.tags {
        text = format!("{text}\nnaming to {tag} done");
    }
    text
}

fn build_options(
    args: &Args,
    input: &Input,
    request: Request,
    epoch_s: i64,
) -> Result<BuildOptions> {
    let tags = args.tag.iter().map(|tag| super::reference(tag)).collect::<Result<Vec<_>>>()?;
    if let Some(tag) = tags.iter().find(|tag| tag.digest().is_some()) {
        return Err(Error::invalid(format!(
            "refusing to create a tag with a digest reference: {tag}"
        )));
    }
    Ok(BuildOptions {
        name: name(&args.path, args.file.as_deref()),
        dockerfile: input.dockerfile.clone(),
        context: input.directory().map(PathBuf::from),
        named_contexts: BTreeMap::new(),
        request,
        secrets: BTreeMap::new(),
        ssh: BTreeMap::new(),
        limits: args.limits()?,
        cgroup_parent: args.cgroup_parent()?,
        shm_bytes: args.shm_bytes()?,
        pull: args.pull || args.update_lock,
        allow: args.allowed()?,
        epoch_s,
        tags,
        ticks: false,
        normalize_off: engine::normalize_off(&args.no_normalize)?,
        lock: None,
        cache_from: cache::sources(&args.cache_from)?,
        is_cache: args.has_inline_cache()?
            || cache::targets(&args.cache_to)?.iter().any(|target| target.place.is_none()),
    })
}

/// What tells a Dockerfile from others, for `cais why cache`.
pub(super) fn name(context: &str, file: Option<&str>) -> String {
    let place = |path: &str| match std::fs::canonicalize(path) {
        Ok(path) => path.display().to_string(),
        Err(_) => oci::redacted(path).into_owned(),
    };
    match file {
        Some(file) => format!("{} ({})", place(context), place(file)),
        None => place(context),
    }
}

/// What failed, with the lines of the Dockerfile that it is about.
fn explain(show: &mut Show, input: &Input, options: &BuildOptions, failed: BuildError) -> Error {
    show.failed(failed.step, &failed.error.to_string());
    let text = &options.dockerfile;
    let mut what = "failed to solve".to_owned();
    if let Some(span) = failed.span {
        show.excerpt(&build::excerpt(&input.dockerfile_name, text, span));
        if failed.step.is_none() && failed.error.kind() == Kind::Invalid {
            let (line, _) = build::position(text, span.start);
            what = format!("{what}: dockerfile parse error on line {line}");
        }
    }
    let hint = failed.error.hint_text().map(str::to_owned);
    let error = Error::caused(failed.error.kind(), what, failed.error);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// `--check`: what is found is said on standard output, and is the exit code.
fn check(session: &Session, input: &Input, options: &BuildOptions) -> Result<i32> {
    let mut show = Show::silent();
    let pulls = View::new(To::Stderr, true);
    let found = session
        .engine()?
        .check_build(options, &|event| pulls.show(event))
        .map_err(|failed| explain(&mut show, input, options, failed))?;
    let mut text = match found.len() {
        0 => "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        n => format!("Check complete, {n} warnings have been found!\n"),
    };
    for finding in &found {
        let url = if finding.rule.url.is_empty() {
            String::new()
        } else {
            format!(" - {}", finding.rule.url)
        };
        text =
            format!("{text}\nWARNING: {}{url}\n{}\n", finding.rule.name, finding.rule.description);
        if finding.message != finding.rule.description {
            text = format!("{text}{}\n", finding.message);
        }
        text += &build::excerpt(&input.dockerfile_name, &options.dockerfile, finding.span);
    }
    // It shows lines of the Dockerfile, which may be somebody else's.
    session.print(&crate::output::printable(&text))?;
    // Ours are advice.
    Ok(i32::from(found.iter().any(|finding| !finding.rule.is_own)))
}

/// `--iidfile` and `--metadata-file`.
fn record(args: &Args, built: &Outcome, options: &BuildOptions) -> Result<()> {
    let write = |path: &PathBuf, text: &str| {
        std::fs::write(path, text).map_err(|error| {
            Error::caused(Kind::Invalid, format!("write {}", path.display()), error)
        })
    };
    if let Some(path) = &args.iidfile {
        write(path, &built.id.to_string())?;
    }
    let Some(path) = &args.metadata_file else { return Ok(()) };
    let names: Vec<String> = options.tags.iter().map(ToString::to_string).collect();
    let text = serde_json::to_string_pretty(&built.metadata(&names)).unwrap_or_default();
    write(path, &(text + "\n"))
}

impl Outcome {
    /// What buildx tells of an image with these names.
    pub(super) fn metadata(&self, names: &[String]) -> serde_json::Value {
        let mut metadata = serde_json::json!({
            "containerimage.descriptor": self.descriptor,
            "containerimage.digest": self.descriptor.digest,
            "image.name": names.join(","),
        });
        // An index has none.
        if self.id != self.descriptor.digest {
            metadata["containerimage.config.digest"] = serde_json::json!(self.id);
        }
        metadata
    }
}
