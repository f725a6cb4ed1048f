//! Instructions, each as it is understood, and what is said of those that are not.

use build::{Command, CommandLine, Dockerfile, RunNetwork};

fn command(line: &str) -> Command {
    let text = format!("FROM x\n{line}\n");
    let file = Dockerfile::parse(&text).unwrap_or_else(|error| panic!("{line}: {error}"));
    file.stages[0].instructions[0].command.clone()
}

/// The file is refused with this message, and the caret stands under this text.
fn fails(text: &str, message: &str, place: &str) {
    let error = Dockerfile::parse(text).expect_err(text);
    assert!(error.to_string().contains(message), "{text}: {error}");
    let span = error.span().unwrap_or_default();
    assert_eq!(&text[span.start..span.end], place, "{text}: {error}");
}

fn own(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn unknown_words_have_a_nearest_right_one() {
    fails("FROM x\nRUM y\n", "unknown instruction: RUM (did you mean RUN?)", "RUM");
    fails("FROM x\nenntrypoint y\n", "(did you mean entrypoint?)", "enntrypoint");
    fails("FROM x\nCOPY --frm=a b c\n", "unknown flag: --frm (did you mean from?)", "--frm=a");
    fails(
        "FROM x\nRUN --network=hots a\n",
        "invalid network mode \"hots\" (did you mean host?)",
        "--network=hots",
    );
    fails("FROM x\nONBUILD RUM y\n", "unknown instruction: RUM", "RUM");
}

#[test]
fn files_begin_with_from() {
    fails("", "file with no instructions", "");
    fails("# x\n\n", "file with no instructions", "");
    fails("ARG a\n", "dockerfile contains no stages to build", "");
    fails("RUN a\nFROM x\n", "no build stage in current context", "RUN");
    fails("FROM\n", "FROM requires either one or three arguments", "FROM");
    fails("FROM a b\n", "FROM requires either one or three arguments", "a b");
    fails("FROM a AS 1b\n", "invalid name for build stage: \"1b\"", "1b");
    fails("FROM --plat=x a\n", "unknown flag: --plat", "--plat=x");
    let file = Dockerfile::parse("ARG v=1\nfrom --platform=$P a:$v as Build\n").unwrap();
    assert_eq!(file.stages[0].name, "build");
    assert_eq!(file.stages[0].platform.as_deref(), Some("$P"));
    assert_eq!((file.global_args.len(), file.stages[0].base.as_str()), (1, "a:$v"));
}

#[test]
fn env_and_label_have_two_forms() {
    let pairs = |line: &str| match command(line) {
        Command::Env(pairs) | Command::Label(pairs) => {
            pairs.into_iter().map(|pair| (pair.name, pair.value, pair.is_legacy)).collect()
        }
        _ => Vec::new(),
    };
    assert_eq!(pairs("ENV a b  c"), [("a".into(), "b  c".into(), true)]);
    assert_eq!(
        pairs("ENV a=b c=\"d e\" f=g\\ h"),
        [
            ("a".into(), "b".into(), false),
            ("c".into(), "\"d e\"".into(), false),
            ("f".into(), "g\\ h".into(), false)
        ]
    );
    assert_eq!(pairs("LABEL a="), [("a".into(), String::new(), false)]);
    fails("FROM x\nENV\n", "ENV requires at least one argument", "ENV");
    fails("FROM x\nENV a\n", "ENV must have two arguments", "a");
    fails("FROM x\nENV a=b c\n", "can't find = in \"c\"", "c");
    fails("FROM x\nENV =b\n", "ENV names can not be blank", "=b");
    fails("FROM x\nLABEL --x a=b\n", "unknown flag: --x", "--x");
}

#[test]
fn shell_and_exec_forms_are_told_apart() {
    let shell = |line: &str| Command::Cmd(CommandLine::Shell(line.into()));
    assert_eq!(command("CMD a b"), shell("a b"));
    assert_eq!(command("CMD [\"a\", \"b\"]"), Command::Cmd(CommandLine::Exec(own(&["a", "b"]))));
    assert_eq!(command("CMD ['a']"), shell("['a']"));
    assert_eq!(command("CMD [ \"$x\" = 1 ] && y"), shell("[ \"$x\" = 1 ] && y"));
    assert_eq!(command("CMD"), shell(""));
    assert_eq!(command("CMD []"), Command::Cmd(CommandLine::Exec(Vec::new())));
    assert_eq!(command("SHELL [\"a\"]"), Command::Shell(own(&["a"])));
    fails("FROM x\nCMD [1]\n", "arrays must be comprised of strings only", "[1]");
    fails("FROM x\nSHELL a b\n", "SHELL requires the arguments to be in JSON form", "a b");
    fails("FROM x\nSHELL []\n", "SHELL requires at least one argument", "[]");
    fails("FROM x\nRUN\n", "RUN requires at least one argument", "RUN");
}

#[test]
fn copies_have_sources_and_a_destination() {
    let Command::Copy(copy) = command(
        "COPY --from=b --chown=1:2 --chmod=u+x --link --parents --exclude=*.o --exclude=a x y z/",
    ) else {
        panic!("not a copy")
    };
    assert_eq!((copy.sources, copy.destination.as_str()), (own(&["x", "y"]), "z/"));
    assert_eq!((copy.from.as_deref(), copy.chown.as_deref()), (Some("b"), Some("1:2")));
    assert!(copy.link && copy.parents);
    assert_eq!(copy.exclude, own(&["*.o", "a"]));
    let Command::Add(add) =
        command("ADD --checksum=c --unpack=false --keep-git-dir [\"a b\", \"/c\"]")
    else {
        panic!("not an add")
    };
    assert_eq!((add.sources, add.unpack), (own(&["a b"]), Some(false)));
    assert_eq!((add.checksum.as_deref(), add.keep_git_dir), (Some("c"), Some(true)));
    fails("FROM x\nCOPY a\n", "COPY requires at least two arguments", "a");
    fails(
        "FROM x\nCOPY --from=$x a b\n",
        "variable expansion is not supported for --from",
        "--from=$x",
    );
    fails(
        "FROM x\nCOPY --link=maybe a b\n",
        "expecting boolean value for flag --link",
        "--link=maybe",
    );
    fails("FROM x\nCOPY --chown a b\n", "missing a value on flag: --chown", "--chown");
    fails(
        "FROM x\nCOPY --chown=a --chown=b a b\n",
        "duplicate flag specified: --chown",
        "--chown=b",
    );
    fails("FROM x\nCOPY --checksum=a a b\n", "unknown flag: --checksum", "--checksum=a");
    fails("FROM x\nCOPY a <<EOF\nEOF\n", "COPY cannot accept a heredoc as a destination", "<<EOF");
}

#[test]
fn heredocs_are_files_of_a_copy() {
    let Command::Copy(copy) = command("COPY <<-a.txt <<'b' c /d/\n\ta\n\ta.txt\n$b\nb") else {
        panic!("not a copy")
    };
    let inline: Vec<_> =
        copy.inline.iter().map(|file| (file.name.as_str(), file.text(), file.expand)).collect();
    assert_eq!(inline, [("a.txt", "a\n".to_owned(), true), ("b", "$b\n".to_owned(), false)]);
    assert_eq!(copy.sources, own(&["c"]));
}

#[test]
fn runs_have_mounts() {
    let Command::Run(run) =
        command("RUN --mount=type=cache,target=/c --mount=target=/b --network=none <<EOF\na\nEOF")
    else {
        panic!("not a run")
    };
    assert_eq!((run.mounts.len(), run.network), (2, RunNetwork::None));
    assert_eq!(run.heredocs[0].content, "a\n");
    fails(
        "FROM x\nRUN --mount=type=cach a\n",
        "unsupported mount type \"cach\"",
        "--mount=type=cach",
    );
    fails("FROM x\nRUN --security=none a\n", "invalid security \"none\"", "--security=none");
    fails("FROM x\nRUN --device=a b\n", "RUN --device is not supported", "--device=a");
}

#[test]
fn health_checks_have_times() {
    let Command::Healthcheck(check) = command(
        "HEALTHCHECK --interval=5m --timeout=3s --start-period=1s --start-interval=500ms --retries=2 CMD a b",
    ) else {
        panic!("not a check")
    };
    assert_eq!(check.test, own(&["CMD-SHELL", "a b"]));
    assert_eq!((check.interval, check.retries), (300_000_000_000, 2));
    let Command::Healthcheck(check) = command("HEALTHCHECK CMD [\"a\"]") else {
        panic!("no check")
    };
    assert_eq!(check.test, own(&["CMD", "a"]));
    let Command::Healthcheck(check) = command("HEALTHCHECK none") else { panic!("no check") };
    assert_eq!(check.test, own(&["NONE"]));
    fails("FROM x\nHEALTHCHECK\n", "at least one argument", "HEALTHCHECK");
    fails("FROM x\nHEALTHCHECK NONE a\n", "takes no arguments", "NONE a");
    fails("FROM x\nHEALTHCHECK CMD\n", "Missing command after HEALTHCHECK CMD", "CMD");
    fails("FROM x\nHEALTHCHECK RUN a\n", "Unknown type \"RUN\" in HEALTHCHECK (try CMD)", "RUN a");
    fails("FROM x\nHEALTHCHECK --interval=1 CMD a\n", "invalid duration", "--interval=1");
    fails(
        "FROM x\nHEALTHCHECK --interval=1us CMD a\n",
        "cannot be less than 1ms",
        "--interval=1us",
    );
    fails("FROM x\nHEALTHCHECK --retries=-1 CMD a\n", "--retries must be", "--retries=-1");
}

#[test]
fn onbuild_keeps_an_instruction() {
    assert_eq!(command("ONBUILD run a"), Command::Onbuild("run a".into()));
    assert_eq!(command("ONBUILD RUN cat <<E\nx\nE"), Command::Onbuild("RUN cat <<E\nx\nE".into()));
    fails("FROM x\nONBUILD\n", "ONBUILD requires at least one argument", "ONBUILD");
    fails("FROM x\nONBUILD ONBUILD RUN a\n", "Chaining ONBUILD", "ONBUILD");
    fails("FROM x\nONBUILD FROM a\n", "FROM isn't allowed as an ONBUILD trigger", "FROM");
    fails("FROM x\nONBUILD COPY --frm=x a b\n", "unknown flag", "--frm=x");
}

#[test]
fn the_rest_have_values() {
    assert_eq!(command("WORKDIR /a b"), Command::Workdir("/a b".into()));
    assert_eq!(command("USER a:b"), Command::User("a:b".into()));
    assert_eq!(command("EXPOSE 80 53/udp"), Command::Expose(own(&["53/udp", "80"])));
    assert_eq!(command("VOLUME /a /b"), Command::Volume(own(&["/a", "/b"])));
    assert_eq!(command("VOLUME [\"/a b\"]"), Command::Volume(own(&["/a b"])));
    assert_eq!(command("STOPSIGNAL 9"), Command::StopSignal("9".into()));
    assert_eq!(command("MAINTAINER Me <me@x>"), Command::Maintainer("Me <me@x>".into()));
    fails("FROM x\nWORKDIR\n", "WORKDIR requires exactly one argument", "WORKDIR");
    fails("FROM x\nEXPOSE\n", "EXPOSE requires at least one argument", "EXPOSE");
    fails("FROM x\nVOLUME [\"\"]\n", "can not be an empty string", "[\"\"]");
    fails("FROM x\nARG\n", "ARG requires at least one argument", "ARG");
    fails("FROM x\nARG =a\n", "ARG names can not be blank", "=a");
}

#[test]
fn places_are_right_behind_continuations() {
    let text = "FROM x\nRUN a \\\n  # why\n  && b\nCOPY --link \\\n  --frm=a \\\n  b c\n";
    fails(text, "unknown flag: --frm", "--frm=a");
}

proptest::proptest! {
    #[test]
    fn nothing_makes_it_panic(lines in proptest::collection::vec(
        "(FROM|RUN|COPY|ADD|ENV|ARG|LABEL|ONBUILD|HEALTHCHECK|SHELL|EXPOSE|VOLUME|#) ?[a-z =$<>EOF{}\\[\\]\"'\\\\,:/-]{0,20}", 0..6))
    {
        let text = lines.join("\n");
        if let Err(error) = Dockerfile::parse(&text)
            && let Some(span) = error.span()
        {
            proptest::prop_assert!(span.end <= text.len());
            let _ = error.excerpt("Dockerfile", &text);
        }
    }
}
