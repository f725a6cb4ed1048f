//! Where stages start, and which images are used.

use oci::{ContainerConfig, ImageConfig, Platform};

use crate::check::own;
use crate::check::rule::{
    FROM_PLATFORM_FLAG_CONST_DISALLOWED, INVALID_BASE_IMAGE_PLATFORM, REDUNDANT_TARGET_PLATFORM,
    UNDEFINED_ARG_IN_FROM,
};
use crate::error::{Error, Result, did_you_mean, nearest};
use crate::graph::{CopyOp, CopySource, From as Source, ImageOp, Op, Step, StepId};
use crate::language::expand::{Expanded, Lexer, Variables as _};
use crate::language::instruction::{Instruction, Stage};
use crate::plan::stage::{Place, is_shown};
use crate::plan::state::State;
use crate::plan::{Bases, NamedContext, Planner};
use crate::source::Span;

const SCRATCH: &str = "scratch";
/// Where programs are looked for if nobody says so.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl<B: Bases> Planner<'_, B> {
    /// What a stage comes to; each is looked at once.
    pub(super) fn stage(&mut self, index: usize) -> std::result::Result<State, B::Error> {
        if let Some(state) = &self.states[index] {
            return Ok(state.clone());
        }
        let file = self.file;
        let stage = &file.stages[index];
        if self.entered.contains(&index) {
            let message = format!("circular dependency detected on stage: {}", self.display(index));
            return Err(Error::at(stage.from.span, message).into());
        }
        self.entered.push(index);
        let state = self.walk(index, stage)?;
        self.entered.pop();
        self.states[index] = Some(state.clone());
        Ok(state)
    }

    fn walk(&mut self, index: usize, stage: &Stage) -> std::result::Result<State, B::Error> {
        let reference = self.base_name(stage)?;
        let platform = self.platform(stage)?;
        let parent = self.parent(index, &reference);
        let uses_image = parent.is_none() && reference != SCRATCH;
        let shown = stage.instructions.iter().filter(|instruction| is_shown(instruction)).count();
        let name = self.display(index);
        let mut place = Place {
            index,
            name: if self.file.stages.len() == 1 { String::new() } else { name.clone() },
            total: shown + usize::from(uses_image),
            count: 0,
            ignore_cache: self.request.no_cache || self.request.no_cache_stages.contains(&name),
            is_trigger: false,
        };
        let (mut state, triggers, from) = match parent {
            Some(parent) => {
                let parent = self.stage(parent)?;
                (parent.inherited(), parent.triggers, None)
            }
            None if reference == SCRATCH => (self.scratch(), Vec::new(), None),
            None => {
                if !self.request.contexts.contains_key(&reference) {
                    own::check_base(stage, &reference, &mut self.findings);
                }
                let (state, triggers, from) = self.image_stage(stage, &reference, platform)?;
                (state, triggers, Some(from))
            }
        };
        let triggers =
            triggers.iter().map(|text| Instruction::parse_trigger(text, stage.from.span));
        let triggers = triggers.collect::<Result<Vec<_>>>()?;
        place.total += triggers.iter().filter(|instruction| is_shown(instruction)).count();
        if let Some(mut from) = from {
            from.name = place.next(&from.name);
            let is_copied = matches!(from.op, Op::Copy(_));
            let step = self.add(from);
            state.tree = Some(step);
            if is_copied {
                state.record("COPY / / # buildkit".to_owned(), Some(step));
            }
        }
        place.is_trigger = true;
        for instruction in &triggers {
            self.dispatch(&mut state, &mut place, instruction)?;
        }
        place.is_trigger = false;
        for instruction in &stage.instructions {
            self.dispatch(&mut state, &mut place, instruction)?;
        }
        Ok(state)
    }

    /// The name of a stage for people.
    pub(super) fn display(&self, index: usize) -> String {
        match self.file.stages[index].name.as_str() {
            "" => format!("stage-{index}"),
            name => name.to_owned(),
        }
    }

    /// The stage that another starts from: one before it, spelled as it is known.
    fn parent(&self, index: usize, reference: &str) -> Option<usize> {
        let earlier = self.file.stages[..index].iter();
        earlier
            .rev()
            .position(|stage| !stage.name.is_empty() && stage.name == reference)
            .map(|back| index - 1 - back)
    }

    fn base_name(&mut self, stage: &Stage) -> Result<String> {
        let expanded = self.variables_of_from(stage, &stage.base)?;
        match expanded.text.is_empty() {
            true => {
                let message = format!("base name ({}) should not be blank", stage.base);
                Err(Error::at(stage.base_span, message))
            }
            false => Ok(expanded.text),
        }
    }

    /// A word of FROM, which knows only what stands before all stages.
    fn variables_of_from(&mut self, stage: &Stage, word: &str) -> Result<Expanded> {
        let lexer = Lexer::new(stage.from.escape);
        let expanded = lexer.expand(word, &self.scope).map_err(|e| e.or_at(stage.from.span))?;
        for name in &expanded.unmatched {
            if self.scope.names().any(|known| known == name) {
                continue;
            }
            let right = nearest(name, self.scope.names(), true);
            let right = right.map_or_else(String::new, |right| format!(" (did you mean {right}?)"));
            let message = format!("FROM argument '{name}' is not declared{right}");
            let own = stage.from.check.as_ref();
            self.findings.add(own, &UNDEFINED_ARG_IN_FROM, stage.from.span, message);
        }
        Ok(expanded)
    }

    /// `--platform`, and what is odd about it.
    fn platform(&mut self, stage: &Stage) -> Result<Option<Platform>> {
        let Some(text) = &stage.platform else { return Ok(None) };
        let (own, span) = (stage.from.check.as_ref(), stage.from.span);
        let expanded = self.variables_of_from(stage, text)?;
        let names: Vec<&str> = expanded.matched.iter().map(String::as_str).collect();
        let target = self.scope.get("TARGETPLATFORM").unwrap_or_default();
        if names == ["TARGETPLATFORM"] && expanded.unmatched.is_empty() && expanded.text == target {
            let message = format!(
                "Setting platform to predefined {text} in FROM is redundant as this is the default behavior"
            );
            self.findings.add(own, &REDUNDANT_TARGET_PLATFORM, span, message);
        }
        let suggested = || {
            let mut unknown = expanded.unmatched.iter();
            unknown
                .next()
                .map_or_else(String::new, |name| did_you_mean(name, self.scope.names(), true))
        };
        if expanded.text.is_empty() {
            let message = format!("empty platform value from expression {text}{}", suggested());
            return Err(Error::at(span, message));
        }
        let platform: Platform = expanded.text.parse().map_err(|error| {
            Error::at(span, format!("failed to parse platform {text}: {error}{}", suggested()))
        })?;
        let is_constant = expanded.matched.is_empty() && expanded.unmatched.is_empty();
        let in_name =
            stage.name.contains(&platform.os) || stage.name.contains(&platform.architecture);
        if is_constant && !in_name {
            let message =
                format!("FROM --platform flag should not use constant value {:?}", expanded.text);
            self.findings.add(own, &FROM_PLATFORM_FLAG_CONST_DISALLOWED, span, message);
        }
        Ok(Some(platform))
    }

    /// A stage that starts from nothing.
    fn scratch(&self) -> State {
        let platform = &self.request.platform;
        let image = ImageConfig {
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone().unwrap_or_default(),
            os: platform.os.clone(),
            config: ContainerConfig { working_dir: "/".into(), ..ContainerConfig::default() },
            ..ImageConfig::default()
        };
        let mut state = State::new(None, image, platform.clone());
        state.set_env("PATH", DEFAULT_PATH);
        state
    }

    /// A stage that starts from an image, what that has kept for it, and the step that it is.
    fn image_stage(
        &mut self,
        stage: &Stage,
        reference: &str,
        platform: Option<Platform>,
    ) -> std::result::Result<(State, Vec<String>, Step), B::Error> {
        let platform = platform.unwrap_or_else(|| self.request.platform.clone());
        let reference = match self.request.contexts.get(reference) {
            Some(NamedContext::Image(image)) => image.clone(),
            Some(NamedContext::Files) => return Ok(self.files_stage(stage, reference)),
            None => reference.to_owned(),
        };
        let base = self.bases.base(&reference, &platform, stage.base_span)?;
        let mut image = base.config;
        let actual = (image.os.as_str(), image.architecture.as_str());
        if actual != (platform.os.as_str(), platform.architecture.as_str()) {
            let (os, architecture) = actual;
            let message = format!(
                "Base image {reference} was pulled with platform \"{os}/{architecture}\", expected \
                 \"{platform}\" for current build"
            );
            let own = stage.from.check.as_ref();
            self.findings.add(own, &INVALID_BASE_IMAGE_PLATFORM, stage.from.span, message);
        }
        let triggers = std::mem::take(&mut image.config.on_build);
        if !image.config.env.iter().any(|variable| variable.starts_with("PATH=")) {
            image.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        let name = format!("FROM {}", base.name);
        let op =
            Op::Image(ImageOp { name: base.name, platform: platform.clone(), layers: base.layers });
        let step = Step { name, span: stage.from.span, base: None, op, ignore_cache: false };
        let mut state = State::new(None, image, platform);
        state.take_image_env();
        Ok((state, triggers, step))
    }

    /// A stage that starts from the files of a named context, and the step that copies them.
    fn files_stage(&self, stage: &Stage, name: &str) -> (State, Vec<String>, Step) {
        let source = CopySource::Path {
            from: Source::Context(Some(name.to_owned())),
            path: "/".into(),
            parents: None,
            unpack: false,
        };
        let op = Op::Copy(CopyOp {
            sources: vec![source],
            destination: "/".into(),
            chown: None,
            chmod: None,
            exclude: Vec::new(),
            link: false,
        });
        let (name, span) = (format!("FROM {name}"), stage.from.span);
        let step = Step { name, span, base: None, op, ignore_cache: false };
        (self.scratch(), Vec::new(), step)
    }

    /// What `--from` means in a stage: a stage before it, a named context, or an image. A number is
    /// that of a stage where `takes_numbers`.
    pub(super) fn source(
        &mut self,
        place: &Place,
        from: &str,
        span: Span,
        takes_numbers: bool,
    ) -> std::result::Result<Source, B::Error> {
        let numbered = from.parse::<usize>().ok().filter(|_| takes_numbers);
        if let Some(index) = numbered
            && index >= self.file.stages.len()
        {
            return Err(Error::at(span, format!("invalid stage index {index}")).into());
        }
        let stage = numbered.or_else(|| self.named(from));
        if let Some(stage) = stage {
            if stage > place.index {
                let own = self.display(place.index);
                let message = format!(
                    "cannot copy from stage {from:?}, it needs to be defined before current stage {own:?}"
                );
                return Err(Error::at(span, message).into());
            }
            let state = self.stage(stage)?;
            return Ok(state.tree.map_or(Source::Scratch, Source::Step));
        }
        match self.request.contexts.get(from) {
            Some(NamedContext::Files) => Ok(Source::Context(Some(from.to_owned()))),
            Some(NamedContext::Image(image)) => {
                let image = image.clone();
                self.image_source(&image, span)
            }
            None if from == SCRATCH => Ok(Source::Scratch),
            None => self.image_source(from, span),
        }
    }

    /// The files of an image.
    fn image_source(
        &mut self,
        reference: &str,
        span: Span,
    ) -> std::result::Result<Source, B::Error> {
        let platform = self.request.platform.clone();
        let key = (reference.to_owned(), platform.to_string());
        let step: Option<StepId> = match self.images.get(&key) {
            Some(step) => *step,
            None => {
                let base = self.bases.base(reference, &platform, span)?;
                let name = format!("FROM {}", base.name);
                let op = Op::Image(ImageOp { name: base.name, platform, layers: base.layers });
                let step = Step { name, span, base: None, op, ignore_cache: false };
                let step = Some(self.add(step));
                self.images.insert(key, step);
                step
            }
        };
        Ok(step.map_or(Source::Scratch, Source::Step))
    }
}
